//! A source without what its module level does not need: bodies of functions and classes, long strings, comments.
//!
//! Nine tenths of an installed package are bodies, and parsing is what costs. One pass over the bytes, by logical
//! lines, leaves them out; what remains has the same statements on the same lines and is parsed like any other source. It is no
//! parser: where its view of strings and brackets may be wrong it gives up, and the caller parses the whole file. Names
//! that functions declare `global` are passed on apart.

/// A pruned source.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pruned<'s> {
    /// The rest, line by line where it was.
    pub(super) text: String,
    /// Names that functions declare `global`.
    pub(super) globals: Vec<&'s str>,
    /// The longest logical line, in bytes: nothing in the text nests deeper. Unknown where strings have expressions in them, since
    /// their quotes may be misread.
    pub(super) longest: Option<usize>,
}

/// Prunes a source. `None` where only a parser can tell what is a string and what is not.
pub(super) fn prune(source: &str) -> Option<Pruned<'_>> {
    // A class that imports something is rare enough to look at such a file again.
    pass(source, false).or_else(|| pass(source, true))
}

/// One pass. Bodies of classes are left out too unless `classes`; `None` then also for a class that imports something.
fn pass(source: &str, classes: bool) -> Option<Pruned<'_>> {
    let mut scan = Scan {
        source,
        bytes: source.as_bytes(),
        at: 0,
        text: String::with_capacity(source.len() / 4),
        interpolated: false,
    };
    let mut globals = Vec::new();
    // How far what is left out is indented: the outermost function or class, and a function in that class.
    let mut block: Option<(usize, bool)> = None;
    let mut method: Option<usize> = None;
    let mut longest = 0;
    while scan.at < scan.bytes.len() {
        let start = scan.at;
        let indent = scan.indent();
        let rest = scan.bytes.get(scan.at..)?;
        match rest.first() {
            None => break,
            Some(b'\n' | b'#') => {
                scan.comment();
                scan.newline();
                continue;
            }
            _ => {}
        }
        if let Some((_, is_class)) = block.filter(|(outer, _)| indent > *outer) {
            let line = scan.at;
            let last = scan.logical_line(false)?;
            if rest.starts_with(b"global ") {
                let names = source.get(line + 7..scan.at)?.split(['#', '\n', ';']).next().unwrap_or_default();
                globals.extend(names.split(',').map(str::trim).filter(|name| !name.is_empty()));
            }
            method = method.filter(|method| indent > *method);
            if is_class && method.is_none() {
                if function_name(rest).is_some() && last == b':' {
                    method = Some(indent);
                } else if rest.starts_with(b"import ") || rest.starts_with(b"from ") {
                    return None;
                }
            }
            continue;
        }
        (block, method) = (None, None);
        let function = function_name(rest).map(|name| (name, "def "));
        let class = || class_name(rest).filter(|_| !classes).map(|name| (name, "class "));
        if let Some((name, word)) = function.or_else(class) {
            scan.text.push_str(source.get(start..scan.at)?);
            scan.text.push_str(word);
            scan.text.push_str(std::str::from_utf8(name).ok()?);
            scan.text.push_str("(): pass");
            if scan.logical_line(false)? == b':' {
                block = Some((indent, word == "class "));
            }
        } else {
            let before = scan.text.len();
            scan.text.push_str(source.get(start..scan.at)?);
            scan.logical_line(true)?;
            longest = longest.max(scan.text.len() - before);
        }
    }
    Some(Pruned { text: scan.text, globals, longest: (!scan.interpolated).then_some(longest) })
}

/// The name that `class` defines.
fn class_name(line: &[u8]) -> Option<&[u8]> {
    let name = line.strip_prefix(b"class ")?.trim_ascii_start();
    let end = name.iter().position(|byte| matches!(byte, b'(' | b'[' | b' ' | b'\t' | b':'))?;
    name.get(..end).filter(|name| !name.is_empty())
}

/// The name that `def` or `async def` defines.
fn function_name(line: &[u8]) -> Option<&[u8]> {
    let rest = match line.strip_prefix(b"async") {
        Some(rest) if rest.starts_with(b" ") => rest.trim_ascii_start(),
        _ => line,
    };
    let rest = rest.strip_prefix(b"def")?;
    let name = rest.trim_ascii_start();
    if name.len() == rest.len() {
        return None;
    }
    let end = name.iter().position(|byte| matches!(byte, b'(' | b'[' | b' ' | b'\t'))?;
    name.get(..end).filter(|name| !name.is_empty())
}

/// Where the pass stands.
struct Scan<'s> {
    source: &'s str,
    bytes: &'s [u8],
    at: usize,
    text: String,
    /// A kept string may have expressions in it.
    interpolated: bool,
}

impl Scan<'_> {
    /// Skips white space at the beginning of a line and says how wide it is.
    fn indent(&mut self) -> usize {
        let mut width = 0;
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b' ' => width += 1,
                b'\t' => width = (width / 8 + 1) * 8,
                b'\x0c' => width = 0,
                b'\r' => {}
                _ => break,
            }
            self.at += 1;
        }
        width
    }

    /// Skips a comment, up to the end of its line.
    fn comment(&mut self) {
        if self.bytes.get(self.at) == Some(&b'#') {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            self.at += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        }
    }

    /// Takes one line end, if there is one.
    fn newline(&mut self) {
        if self.bytes.get(self.at) == Some(&b'\n') {
            self.text.push('\n');
            self.at += 1;
        }
    }

    /// Goes to the end of a logical line. Its line ends are always kept, the rest only if `keep`. Gives its last byte
    /// that is neither white space nor a comment.
    fn logical_line(&mut self, keep: bool) -> Option<u8> {
        let mut depth = 0_usize;
        let mut last = b' ';
        loop {
            let from = self.at;
            let rest = self.bytes.get(from..)?;
            let plain = rest.iter().position(|byte| SPECIAL[usize::from(*byte)]).unwrap_or(rest.len());
            self.at += plain;
            if keep {
                self.text.push_str(self.source.get(from..self.at)?);
            }
            if let Some(byte) = rest.get(..plain)?.iter().rev().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r')) {
                last = *byte;
            }
            let Some(&special) = rest.get(plain) else {
                return (depth == 0).then_some(last);
            };
            match special {
                b'\n' => {
                    self.newline();
                    if depth == 0 {
                        return Some(last);
                    }
                    // A statement in the middle of an expression: the brackets were not what they seemed.
                    let next = self.bytes.get(self.at..)?;
                    if [&b"def "[..], b"class ", b"import ", b"from ", b"@"].iter().any(|word| next.starts_with(word)) {
                        return None;
                    }
                }
                b'#' => self.comment(),
                b'\\' => {
                    let end = self.bytes.get(self.at + 1..)?;
                    let skip = if end.starts_with(b"\r\n") { 2 } else { 1 };
                    if end.get(skip - 1) != Some(&b'\n') {
                        return None;
                    }
                    if keep {
                        self.text.push('\\');
                    }
                    self.text.push('\n');
                    self.at += 1 + skip;
                }
                b'"' | b'\'' => {
                    self.string(special, keep)?;
                    last = special;
                }
                open @ (b'(' | b'[' | b'{') => {
                    depth += 1;
                    last = open;
                    self.take(keep);
                }
                close => {
                    depth = depth.checked_sub(1)?;
                    last = close;
                    self.take(keep);
                }
            }
        }
    }

    /// Takes one ASCII byte.
    fn take(&mut self, keep: bool) {
        if let Some(&byte) = self.bytes.get(self.at).filter(|_| keep) {
            self.text.push(char::from(byte));
        }
        self.at += 1;
    }

    /// Goes over a string. The text of one with three quotes is left out.
    fn string(&mut self, quote: u8, keep: bool) -> Option<()> {
        let start = self.at;
        let rest = self.bytes.get(start..)?;
        let prefix = start.checked_sub(2).and_then(|from| self.bytes.get(from..start)).unwrap_or_default();
        self.interpolated |= keep && prefix.iter().any(|byte| matches!(byte, b'f' | b'F' | b't' | b'T'));
        let triple = rest.get(1) == Some(&quote) && rest.get(2) == Some(&quote);
        let length = if triple { 3 } else { 1 };
        let mut at = length;
        loop {
            let text = rest.get(at..)?;
            let next =
                if triple { memchr::memchr2(quote, b'\\', text) } else { memchr::memchr3(quote, b'\\', b'\n', text) };
            at += next?;
            match rest.get(at)? {
                b'\\' => at += 2,
                b'\n' => return None,
                _ if !triple => break,
                _ if rest.get(at + 1) == Some(&quote) && rest.get(at + 2) == Some(&quote) => break,
                _ => at += 1,
            }
        }
        let end = at + length;
        let body = rest.get(length..at)?;
        if triple {
            let quotes = self.source.get(start..start + 3)?;
            let lines = memchr::memchr_iter(b'\n', body).count();
            if keep {
                self.text.push_str(quotes);
            }
            self.text.extend(std::iter::repeat_n('\n', lines));
            if keep {
                self.text.push_str(quotes);
            }
        } else if keep {
            self.text.push_str(self.source.get(start..start + end)?);
        } else if body.contains(&b'\n') {
            // Lines that a backslash continues.
            let lines = memchr::memchr_iter(b'\n', body).count();
            self.text.extend(std::iter::repeat_n('\n', lines));
        }
        self.at = start + end;
        Some(())
    }
}

/// The bytes at which a scan of a logical line stops.
static SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    let stops = b"\n#\\\"'()[]{}";
    while at < stops.len() {
        table[stops[at] as usize] = true;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_go_and_lines_stay() {
        let source = "#!/usr/bin/python\n\"\"\"Text ( [\n  def no(): \"\"\"\nimport a  # why\n\
            def f(x=(1,\n   2)):  # c\n    '''doc\nimport hidden\n'''\n    global ONE, TWO # g\n\n# out\n    import hidden\n\
            class C(B):\n    x = 'a#b'\n    @p\n    async  def  m(self): return 1\n    y = f\"\"\"{a}\n\"\"\"\n\
            if a and \\\n   b:\n    def g(): # c\n        pass\n    z = {\n 'k': 1 }\nelse: w = 2";
        let pruned = prune(source).unwrap();
        let expected = "\n\"\"\"\n\"\"\"\nimport a  \n\
            def f(): pass\n\n\n\n\n\n\n\n\n\
            class C(): pass\n\n\n\n\n\n\
            if a and \\\n   b:\n    def g(): pass\n\n    z = {\n 'k': 1 }\nelse: w = 2";
        assert_eq!(pruned.text, expected);
        assert_eq!(pruned.globals, ["ONE", "TWO"]);
        let class = "class C:\n    x = 1\n    def f(s):\n        import hidden\n    import seen\n";
        assert_eq!(prune(class).unwrap().text, "class C:\n    x = 1\n    def f(): pass\n\n    import seen\n");
        assert_eq!(pruned.text.lines().count(), source.lines().count());
    }

    #[test]
    fn what_may_be_misread_is_left_to_the_parser() {
        for source in ["x = (1\ndef f(): pass\n", "x = 'a\n", "x = \"\"\"a", "x = )\n", "x = a \\ b\n", "x = [1,", "\\"]
        {
            assert_eq!(prune(source), None, "{source:?}");
        }
        for source in ["", "\n", "# only", "x = 'a\\\nb'\n", "\u{b5} = 'ö'\r\ny = 1\r\n", "def f(a): 'x'"] {
            assert!(prune(source).is_some(), "{source:?}");
        }
    }
}
