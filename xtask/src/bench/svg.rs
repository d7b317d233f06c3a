//! Charts as SVG: bars on a logarithmic scale, and lines on two.
//!
//! In: names and numbers. Out: a text that is an image, without scripts and fonts of its own, readable on a light and on
//! a dark page. Not a general charting program.

/// Colours that differ on white and on black; a further series starts over.
const COLOURS: [(&str, &str); 6] = [
    ("#c2410c", "#fb923c"),
    ("#1d4ed8", "#60a5fa"),
    ("#15803d", "#4ade80"),
    ("#7e22ce", "#c084fc"),
    ("#0e7490", "#22d3ee"),
    ("#57534e", "#a8a29e"),
];
const WIDTH: f64 = 860.0;
const LEFT: f64 = 250.0;
const RIGHT: f64 = 70.0;
const BAR: f64 = 14.0;
/// Height of a chart of lines.
const HEIGHT: f64 = 340.0;

/// A group of bars under one label.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) label: String,
    /// Number of the series and seconds.
    pub(super) bars: Vec<(usize, f64)>,
}

/// A line under one name.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// A logarithmic axis over whole powers of ten.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Axis {
    low: i32,
    high: i32,
    start: f64,
    length: f64,
}

impl Axis {
    /// Around these values; nothing of none.
    fn around(values: impl Iterator<Item = f64>, start: f64, length: f64) -> Option<Self> {
        let logs: Vec<f64> = values.filter(|value| *value > 0.0 && value.is_finite()).map(f64::log10).collect();
        let low = logs.iter().copied().reduce(f64::min)?.floor();
        let high = logs.iter().copied().reduce(f64::max)?.ceil();
        #[expect(clippy::cast_possible_truncation, reason = "logarithms of finite numbers are below 400")]
        let (low, high) = (low as i32, high as i32);
        Some(Self { low, high: high.max(low + 1), start, length })
    }

    fn at(&self, value: f64) -> f64 {
        let part = (value.log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        self.start + part.clamp(0.0, 1.0) * self.length
    }

    /// The powers of ten on it.
    fn marks(&self) -> impl Iterator<Item = f64> {
        (self.low..=self.high).map(|power| 10f64.powi(power))
    }
}

/// Horizontal bars, one group under the other.
pub(super) fn bars(title: &str, series: &[String], groups: &[Group]) -> String {
    let all = groups.iter().flat_map(|group| group.bars.iter().map(|bar| bar.1));
    let Some(axis) = Axis::around(all, LEFT, WIDTH - LEFT - RIGHT) else { return String::new() };
    let count: usize = groups.iter().map(|group| group.bars.len()).sum();
    #[expect(clippy::cast_precision_loss, reason = "a handful of bars")]
    let bottom = 70.0 + count as f64 * BAR + groups.len() as f64 * 12.0;
    let mut text = open(title, bottom + 34.0);
    legend(&mut text, series.iter().map(String::as_str));
    for mark in axis.marks() {
        let x = axis.at(mark);
        line(&mut text, "grid", (x, 60.0), (x, bottom));
        label(&mut text, (x, bottom + 16.0), "middle", &seconds(mark));
    }
    let mut y = 66.0;
    for group in groups {
        label(&mut text, (LEFT - 8.0, y + 11.0), "end", &group.label);
        for (number, value) in &group.bars {
            let end = axis.at(*value);
            let width = (end - LEFT).max(1.0);
            let height = BAR - 2.0;
            let class = number % COLOURS.len();
            put(
                &mut text,
                &format!(
                    "<rect class=\"c{class}\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height}\"/>"
                ),
            );
            label(&mut text, (LEFT + width + 4.0, y + 10.5), "start", &seconds(*value));
            y += BAR;
        }
        y += 12.0;
    }
    text + "</svg>\n"
}

/// Lines over sizes.
pub(super) fn lines(title: &str, across: &str, series: &[Series]) -> String {
    let points = || series.iter().flat_map(|one| one.points.iter().copied());
    let (left, top, bottom) = (80.0, 60.0, HEIGHT - 50.0);
    let x = Axis::around(points().map(|point| point.0), left, WIDTH - left - RIGHT);
    let y = Axis::around(points().map(|point| point.1), bottom, top - bottom);
    let (Some(x), Some(y)) = (x, y) else { return String::new() };
    let mut text = open(title, HEIGHT);
    legend(&mut text, series.iter().map(|one| one.name.as_str()));
    for mark in x.marks() {
        line(&mut text, "grid", (x.at(mark), top), (x.at(mark), bottom));
        label(&mut text, (x.at(mark), bottom + 16.0), "middle", &number(mark));
    }
    for mark in y.marks() {
        line(&mut text, "grid", (left, y.at(mark)), (WIDTH - RIGHT, y.at(mark)));
        label(&mut text, (left - 6.0, y.at(mark) + 4.0), "end", &seconds(mark));
    }
    label(&mut text, (f64::midpoint(left, WIDTH - RIGHT), HEIGHT - 12.0), "middle", across);
    for (count, one) in series.iter().enumerate() {
        let class = count % COLOURS.len();
        let places: Vec<(f64, f64)> = one.points.iter().map(|(across, up)| (x.at(*across), y.at(*up))).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        put(&mut text, &format!("<polyline class=\"l{class}\" points=\"{}\"/>", path.join(" ")));
        for (x, y) in places {
            put(&mut text, &format!("<circle class=\"c{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>"));
        }
    }
    text + "</svg>\n"
}

fn open(title: &str, height: f64) -> String {
    let mut style = String::from(
        "text{font:12px system-ui,sans-serif;fill:#1c1917}.t{font-size:15px;font-weight:600}.bg{fill:#fff}\
         .grid{stroke:#d6d3d1}polyline{fill:none;stroke-width:2}",
    );
    let mut dark = String::from("text{fill:#f5f5f4}.bg{fill:#0d1117}.grid{stroke:#3f3f46}");
    for (at, (light_colour, dark_colour)) in COLOURS.iter().enumerate() {
        let of = |colour: &str| format!(".c{at}{{fill:{colour}}}.l{at}{{stroke:{colour}}}");
        style += &of(light_colour);
        dark += &of(dark_colour);
    }
    let title = escaped(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{title}\">\n\
         <style>{style}@media (prefers-color-scheme:dark){{{dark}}}</style>\n\
         <rect class=\"bg\" width=\"100%\" height=\"100%\"/>\n<text class=\"t\" x=\"16\" y=\"24\">{title}</text>\n"
    )
}

fn legend<'a>(text: &mut String, names: impl Iterator<Item = &'a str>) {
    let mut x = 16.0;
    for (at, name) in names.enumerate() {
        let class = at % COLOURS.len();
        put(text, &format!("<rect class=\"c{class}\" x=\"{x:.0}\" y=\"36\" width=\"12\" height=\"12\"/>"));
        label(text, (x + 17.0, 46.5), "start", name);
        #[expect(clippy::cast_precision_loss, reason = "a name's length")]
        let width = name.chars().count() as f64 * 7.0;
        x += 40.0 + width;
    }
}

fn line(text: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let (x1, y1, x2, y2) = (from.0, from.1, to.0, to.1);
    put(text, &format!("<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"));
}

fn label(text: &mut String, (x, y): (f64, f64), anchor: &str, words: &str) {
    put(text, &format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escaped(words)));
}

fn put(text: &mut String, element: &str) {
    text.push_str(element);
    text.push('\n');
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Seconds as people say them.
pub(super) fn seconds(value: f64) -> String {
    match value {
        value if value < 0.000_999_5 => format!("{:.0} µs", value * 1e6),
        value if value < 0.009_995 => format!("{:.1} ms", value * 1e3),
        value if value < 0.999_5 => format!("{:.0} ms", value * 1e3),
        value if value < 9.995 => format!("{value:.2} s"),
        value => format!("{value:.1} s"),
    }
}

fn number(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{}M", value / 1e6),
        value if value >= 1e3 => format!("{}k", value / 1e3),
        value => format!("{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every element that is opened is closed, and text is escaped: enough of XML for what is written here.
    fn is_balanced(svg: &str) -> bool {
        let mut open = Vec::new();
        for part in svg.split('<').skip(1) {
            let Some((tag, _)) = part.split_once('>') else { return false };
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
            if tag.starts_with('/') {
                if open.pop() != Some(name) {
                    return false;
                }
            } else if !tag.ends_with('/') {
                open.push(name);
            }
        }
        open.is_empty()
    }

    fn attribute(svg: &str, class: &str, name: &str) -> Vec<f64> {
        let lines = svg.lines().filter(|line| line.contains(&format!("class=\"{class}\"")) && line.contains(name));
        let values = lines.map(|line| line.split(&format!(" {name}=\"")).nth(1).unwrap().split('"').next().unwrap());
        values.map(|value| value.parse().unwrap()).collect()
    }

    #[test]
    fn bars_are_as_long_as_their_logarithms() {
        let groups = [Group { label: "a < b".into(), bars: vec![(0, 0.01), (1, 0.1), (2, 1.0)] }];
        let svg = bars("t & u", &["kuz".into(), "x".into(), "y".into()], &groups);
        assert!(is_balanced(&svg), "{svg}");
        assert!(svg.contains("a &lt; b") && svg.contains("t &amp; u"), "{svg}");
        // The last of each colour: the first is the legend's.
        let width = |class: &str| *attribute(&svg, class, "width").last().unwrap();
        assert!((width("c2") - (WIDTH - LEFT - RIGHT)).abs() < 0.2, "the longest fills the scale");
        assert!((width("c1") * 2.0 - width("c2")).abs() < 0.2, "half way on a scale of two decades");
        assert!((width("c0") - 1.0).abs() < 0.2, "the shortest is still seen");
    }

    #[test]
    fn lines_rise_where_the_values_do() {
        let points = vec![(1.0, 0.001), (10.0, 0.01), (100.0, 0.1)];
        let svg = lines("t", "files", &[Series { name: "cold".into(), points }]);
        assert!(is_balanced(&svg), "{svg}");
        let (x, y) = (attribute(&svg, "c0", "cx"), attribute(&svg, "c0", "cy"));
        assert_eq!(x.len(), 3);
        assert!((x[1] - x[0] - (x[2] - x[1])).abs() < 0.2, "{x:?}");
        assert!((y[0] - y[1] - (y[1] - y[2])).abs() < 0.2 && y[0] > y[1], "{y:?}");
    }

    #[test]
    fn nothing_makes_no_chart() {
        assert_eq!(bars("t", &[], &[]), "");
        assert_eq!(lines("t", "x", &[Series { name: "a".into(), points: vec![(0.0, 0.0)] }]), "");
    }

    #[test]
    fn an_axis_has_whole_powers_of_ten() {
        for (values, low, high) in
            [(vec![0.005, 14.0], -3, 2), (vec![1.0], 0, 1), (vec![0.1, 10.0], -1, 1), (vec![2.0, 3.0], 0, 1)]
        {
            let axis = Axis::around(values.iter().copied(), 0.0, 1.0).unwrap();
            assert_eq!((axis.low, axis.high), (low, high), "{values:?}");
        }
    }

    #[test]
    fn seconds_are_said_in_a_fitting_unit() {
        for (value, text) in [
            (0.000_5, "500 µs"),
            (0.004_24, "4.2 ms"),
            (0.073, "73 ms"),
            (0.999, "999 ms"),
            (0.999_9, "1.00 s"),
            (4.5, "4.50 s"),
            (14.04, "14.0 s"),
        ] {
            assert_eq!(seconds(value), text);
        }
    }

    #[test]
    fn charts_have_colours_for_both_pages_and_no_script() {
        let svg = bars("t", &["a".into()], &[Group { label: "x".into(), bars: vec![(0, 1.0)] }]);
        assert!(svg.contains("prefers-color-scheme:dark") && !svg.contains("script"), "{svg}");
    }
}
