//! A shell's line to its simple commands, as far as that can be said without running it.
//!
//! Understood are words with quotes, lists (`&&`, `;`, `|`, `&`), redirections and assignments. Anything else (`if`, `(…)`,
//! functions, here-documents) gives `None`: then nothing is claimed. Nothing is expanded: a word with a `$`, a backtick
//! or a pattern in it is marked as not literal.

/// A word.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Word {
    /// Without quotes.
    pub text: String,
    /// It is what it says.
    pub literal: bool,
}

/// A simple command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Simple {
    /// `NAME=value` before it.
    pub assignments: Vec<Word>,
    /// The command and its arguments.
    pub words: Vec<Word>,
    /// It is run, and its failure is the line's, as far as one can see: no `||` is near it.
    pub certain: bool,
}

/// Longer lines are scripts, not commands.
const LINE_BYTES: usize = 64 << 10;
/// Words that begin something else than a simple command.
const KEYWORDS: [&str; 19] = [
    "if", "then", "else", "elif", "fi", "for", "while", "until", "do", "done", "case", "esac", "select", "function",
    "{", "}", "!", "[[", "time",
];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(Word, bool),
    /// `&&`, `|`, `||`
    Join(&'static str),
    /// `;`, `&`, a line's end.
    End,
    /// The next word is a file.
    Redirect,
}

/// Reads a line.
pub fn parse(line: &str) -> Option<Vec<Simple>> {
    if line.len() > LINE_BYTES {
        return None;
    }
    let mut all = Vec::new();
    // The simple commands of a list, each with whether it stands after `||`.
    let mut list: Vec<(Simple, bool)> = Vec::new();
    let mut present = Simple::default();
    let (mut redirected, mut other) = (false, false);
    for token in tokens(line)?.into_iter().chain([Token::End]) {
        match token {
            Token::Word(..) if redirected => redirected = false,
            _ if redirected => return None,
            Token::Redirect => redirected = true,
            Token::Word(word, plain) => {
                if present.words.is_empty() {
                    if plain && KEYWORDS.contains(&word.text.as_str()) {
                        return None;
                    }
                    if is_assignment(&word.text) {
                        present.assignments.push(word);
                        continue;
                    }
                }
                present.words.push(word);
            }
            Token::Join(_) if present == Simple::default() => return None,
            Token::Join(join) => {
                list.push((std::mem::take(&mut present), other));
                other = join == "||";
            }
            Token::End => {
                if present != Simple::default() {
                    list.push((std::mem::take(&mut present), other));
                }
                let certain = !list.iter().any(|(simple, other)| *other && !gives_up(simple));
                all.extend(list.drain(..).map(|(simple, _)| Simple { certain, ..simple }));
                other = false;
            }
        }
    }
    Some(all)
}

/// `|| exit 1` says no more than that the failure before it is one.
fn gives_up(simple: &Simple) -> bool {
    simple.words.first().is_some_and(|word| matches!(word.text.as_str(), "exit" | "false" | "return"))
}

fn is_assignment(word: &str) -> bool {
    let Some((name, _)) = word.split_once('=') else { return false };
    let first = name.chars().next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    first && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

struct Reader<'l> {
    rest: std::iter::Peekable<std::str::Chars<'l>>,
    tokens: Vec<Token>,
    word: Option<Word>,
    /// Nothing of the word was quoted.
    plain: bool,
}

fn tokens(line: &str) -> Option<Vec<Token>> {
    let mut reader = Reader { rest: line.chars().peekable(), tokens: Vec::new(), word: None, plain: true };
    while let Some(letter) = reader.rest.next() {
        reader.take(letter)?;
    }
    reader.end_word();
    Some(reader.tokens)
}

impl Reader<'_> {
    fn word(&mut self) -> &mut Word {
        self.word.get_or_insert_with(|| Word { text: String::new(), literal: true })
    }

    fn end_word(&mut self) {
        if let Some(word) = self.word.take() {
            self.tokens.push(Token::Word(word, self.plain));
        }
        self.plain = true;
    }

    fn push(&mut self, token: Token) {
        self.end_word();
        self.tokens.push(token);
    }

    fn follows(&mut self, letter: char) -> bool {
        self.rest.next_if_eq(&letter).is_some()
    }

    fn take(&mut self, letter: char) -> Option<()> {
        match letter {
            ' ' | '\t' => self.end_word(),
            '\n' | ';' => {
                // `;;` belongs to `case`.
                if letter == ';' && self.follows(';') {
                    return None;
                }
                self.push(Token::End);
            }
            '#' if self.word.is_none() => while self.rest.next_if(|letter| *letter != '\n').is_some() {},
            '&' if self.follows('&') => self.push(Token::Join("&&")),
            // `&>` sends both outputs to a file.
            '&' if self.follows('>') => self.push(Token::Redirect),
            '&' => self.push(Token::End),
            '|' if self.follows('|') => self.push(Token::Join("||")),
            '|' => {
                self.follows('&');
                self.push(Token::Join("|"));
            }
            '(' | ')' => return None,
            '<' | '>' => self.redirect(letter)?,
            '\'' => self.single()?,
            '"' => self.double()?,
            '\\' => match self.rest.next()? {
                '\n' => {}
                letter => {
                    self.plain = false;
                    self.word().text.push(letter);
                }
            },
            '$' | '`' => self.expansion(letter)?,
            '*' | '?' | '[' => {
                // A lone `[` is a command.
                let lone = letter == '[' && self.word.is_none() && self.rest.peek().is_none_or(|next| *next == ' ');
                let word = self.word();
                word.literal &= lone;
                word.text.push(letter);
            }
            '~' if self.word.is_none() => *self.word() = Word { text: "~".into(), literal: false },
            letter => self.word().text.push(letter),
        }
        Some(())
    }

    fn redirect(&mut self, letter: char) -> Option<()> {
        // A number right before it is no word of the command.
        if self.word.as_ref().is_some_and(|word| word.text.bytes().all(|byte| byte.is_ascii_digit())) && self.plain {
            self.word = None;
        }
        match self.rest.peek() {
            // Here-documents, and processes as files.
            Some('<' | '(') if letter == '<' => return None,
            Some('(') => return None,
            Some('>' | '&' | '|') => drop(self.rest.next()),
            _ => {}
        }
        self.push(Token::Redirect);
        Some(())
    }

    fn single(&mut self) -> Option<()> {
        self.plain = false;
        self.word();
        loop {
            match self.rest.next()? {
                '\'' => return Some(()),
                letter => self.word().text.push(letter),
            }
        }
    }

    fn double(&mut self) -> Option<()> {
        self.plain = false;
        self.word();
        loop {
            match self.rest.next()? {
                '"' => return Some(()),
                letter @ ('$' | '`') => self.expansion(letter)?,
                '\\' => match self.rest.next()? {
                    '\n' => {}
                    letter @ ('"' | '\\' | '$' | '`') => self.word().text.push(letter),
                    letter => self.word().text.extend(['\\', letter]),
                },
                letter => self.word().text.push(letter),
            }
        }
    }

    /// What the shell puts in its place is not known: its text is passed over.
    fn expansion(&mut self, letter: char) -> Option<()> {
        let word = self.word();
        if letter == '`' {
            word.literal = false;
            while self.rest.next()? != '`' {}
            return Some(());
        }
        match self.rest.peek() {
            Some('(') => {
                self.word().literal = false;
                self.balanced('(', ')')
            }
            Some('{') => {
                self.word().literal = false;
                self.balanced('{', '}')
            }
            Some(next) if next.is_ascii_alphanumeric() || "_@*#?-$!".contains(*next) => {
                self.word().literal = false;
                self.rest.next();
                while self.rest.next_if(|next| next.is_ascii_alphanumeric() || *next == '_').is_some() {}
                Some(())
            }
            _ => {
                self.word().text.push('$');
                Some(())
            }
        }
    }

    fn balanced(&mut self, open: char, close: char) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.rest.next()? {
                letter if letter == open => depth += 1,
                letter if letter == close => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return Some(());
                    }
                }
                '\\' => drop(self.rest.next()),
                quote @ ('\'' | '"') => while self.rest.next()? != quote {},
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        let Some(all) = parse(line) else { return "unknown".into() };
        let one = |simple: &Simple| {
            let word = |word: &Word| format!("{}{}", word.text, if word.literal { "" } else { "?" });
            let words = simple.assignments.iter().chain(&simple.words).map(word).collect::<Vec<_>>().join(",");
            format!("{words}{}", if simple.certain { "" } else { " maybe" })
        };
        all.iter().map(one).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn lines_are_read_or_not_understood() {
        for (line, want) in [
            ("uvicorn main:app --host 0.0.0.0", "uvicorn,main:app,--host,0.0.0.0"),
            ("exec gunicorn 'a b' \"c $X\"", "exec,gunicorn,a b,c ?"),
            ("A=b C=\"d e\" run x=y", "A=b,C=d e,run,x=y"),
            ("cd /app && ./run; echo done", "cd,/app | ./run | echo,done"),
            ("a || b && c; d", "a maybe | b maybe | c maybe | d"),
            ("a | b & c", "a | b | c"),
            ("a > out 2>&1 < in && b &> all", "a | b"),
            ("run --workers $(nproc --all) ${PORT:-80} `date`", "run,--workers,?,?,?"),
            ("$CMD x", "?,x"),
            ("~/run *.py", "~/run?,*.py?"),
            ("[ -f x ] && y", "[,-f,x,] | y"),
            ("a \\\n b # c", "a,b"),
            ("a;\nb\n", "a | b"),
            ("echo a#b '#' $ \"$\"", "echo,a#b,#,$,$"),
            ("'if' x", "if,x"),
            ("", ""),
            ("A=b", "A=b"),
            ("a || exit 1", "a | exit,1"),
            ("a || b || exit 1", "a maybe | b maybe | exit,1 maybe"),
            ("if a; then b; fi", "unknown"),
            ("(a)", "unknown"),
            ("f() { a; }", "unknown"),
            ("{ a; }", "unknown"),
            ("! a", "unknown"),
            ("cat << EOF", "unknown"),
            ("a <(b)", "unknown"),
            ("case a in b) c;; esac", "unknown"),
            ("a 'open", "unknown"),
            ("a \"open", "unknown"),
            ("a $(open", "unknown"),
            ("&& a", "unknown"),
            ("a >", "unknown"),
        ] {
            assert_eq!(shown(line), want, "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_taken(line in "[a-c $`'\"\\\\(){}&|;<>#=\\[~*\n]{0,40}") {
            let _ = parse(&line);
        }
    }
}
