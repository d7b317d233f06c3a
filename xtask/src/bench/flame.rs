//! A flame graph of folded stacks.
//!
//! In: lines of `frame;frame;frame count`. Out: an SVG without scripts: each frame is as wide as its share of all samples, lies
//! on its caller, and says its name and share when pointed at. Frames too narrow to be seen are left out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

const WIDTH: f64 = 1200.0;
const ROW: f64 = 16.0;
/// What is above the frames: the title.
const TOP: f64 = 28.0;
/// Pixels below which a frame is left out.
const NARROWEST: f64 = 0.8;
/// Letters of a name that are told when it is pointed at: those of generics can be thousands.
const NAME: usize = 100;
/// Pixels of a letter.
const LETTER: f64 = 6.6;

/// A frame, with all samples that passed through it.
#[derive(Debug, Default)]
struct Frame<'t> {
    samples: f64,
    callees: BTreeMap<&'t str, Frame<'t>>,
}

/// Draws a graph with this title.
pub(super) fn draw(folded: &str, title: &str) -> String {
    let mut root = Frame::default();
    for line in folded.lines() {
        let Some((frames, count)) = line.rsplit_once(' ') else { continue };
        let Ok(count) = count.parse::<f64>() else { continue };
        root.samples += count;
        let mut at = &mut root;
        for frame in frames.split(';') {
            at = at.callees.entry(frame).or_default();
            at.samples += count;
        }
    }
    let scale = WIDTH / root.samples.max(1.0);
    let height = TOP + ROW * f64::from(depth(&root, scale));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"monospace\" \
         font-size=\"11\">\n<text x=\"{}\" y=\"18\" text-anchor=\"middle\" font-size=\"15\">{}</text>\n",
        WIDTH / 2.0,
        escape(title)
    );
    let total = root.samples;
    frames(&mut svg, &root, 0.0, height - ROW, scale, total);
    svg + "</svg>\n"
}

/// Rows that a graph has.
fn depth(frame: &Frame<'_>, scale: f64) -> u32 {
    let seen = frame.callees.values().filter(|callee| callee.samples * scale >= NARROWEST);
    seen.map(|callee| 1 + depth(callee, scale)).max().unwrap_or_default()
}

fn frames(svg: &mut String, caller: &Frame<'_>, left: f64, top: f64, scale: f64, total: f64) {
    let mut left = left;
    for (name, frame) in &caller.callees {
        let width = frame.samples * scale;
        if width >= NARROWEST {
            let hue = name.bytes().fold(7_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into())) % 50;
            let letters = name.chars().take(letters(width)).collect::<String>();
            let _ = writeln!(
                svg,
                "<g><title>{} ({:.1} %)</title><rect x=\"{left:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{}\" \
                 fill=\"hsl({hue},80%,65%)\"/><text x=\"{:.1}\" y=\"{}\">{}</text></g>",
                escape(&name.chars().take(NAME).collect::<String>()),
                100.0 * frame.samples / total.max(1.0),
                ROW - 1.0,
                left + 2.0,
                top + 11.0,
                escape(&letters)
            );
            frames(svg, frame, left, top - ROW, scale, total);
        }
        left += width;
    }
}

/// How many letters fit; a few are no help.
fn letters(width: f64) -> usize {
    (3..200_u16).rev().find(|count| f64::from(*count) * LETTER + 4.0 <= width).map_or(0, usize::from)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_wide_as_their_share() {
        let svg = draw("a;b 30\na;<c> 10\nd 60\nnonsense\n", "t & t");
        for part in [
            "viewBox=\"0 0 1200 60\"",
            "t &amp; t",
            "<title>a (40.0 %)</title><rect x=\"0.0\" y=\"44\" width=\"480.0\"",
            "<title>&lt;c&gt; (10.0 %)</title><rect x=\"0.0\" y=\"28\" width=\"120.0\"",
            "<title>b (30.0 %)</title><rect x=\"120.0\" y=\"28\" width=\"360.0\"",
            "<title>d (60.0 %)</title><rect x=\"480.0\" y=\"44\" width=\"720.0\"",
        ] {
            assert!(svg.contains(part), "{part}\n{svg}");
        }
        assert!(!svg.contains("script"));
    }

    #[test]
    fn what_cannot_be_seen_is_left_out() {
        let svg = draw("a 100000\nb 1\n", "");
        assert!(svg.contains("<title>a ") && !svg.contains("<title>b "));
    }
}
