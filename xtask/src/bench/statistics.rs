//! Medians, spreads and slopes of what was measured.
//!
//! In: numbers. Out: numbers; nothing where there are too few of them. Deliberately no means: one disturbed run would move
//! them.

use serde::{Deserialize, Serialize};

/// The middle and the ends of some measurements.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) count: usize,
}

impl Spread {
    /// None of no values.
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        };
        Some(Self { median, min, max, count: sorted.len() })
    }
}

/// The exponent `k` of `y = c · x^k` that fits best: the slope of the least-squares line through the logarithms.
pub(super) fn exponent(points: &[(f64, f64)]) -> Option<f64> {
    let logs: Vec<(f64, f64)> =
        points.iter().filter(|(x, y)| *x > 0.0 && *y > 0.0).map(|(x, y)| (x.ln(), y.ln())).collect();
    #[expect(clippy::cast_precision_loss, reason = "a handful of points")]
    let count = logs.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let both: f64 = logs.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let square: f64 = logs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    (logs.len() >= 2 && square > 0.0).then(|| both / square)
}

/// The largest points: those whose `x` is at least a hundredth of the largest. A fixed cost hides the growth of the
/// smaller ones.
pub(super) fn tail(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let largest = points.iter().map(|point| point.0).fold(0.0, f64::max);
    points.iter().copied().filter(|(x, _)| *x * 100.0 >= largest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_the_sorted_values() {
        for (values, expected) in [
            (vec![], None),
            (vec![2.0], Some((2.0, 2.0, 2.0))),
            (vec![3.0, 1.0, 2.0], Some((2.0, 1.0, 3.0))),
            (vec![4.0, 1.0, 3.0, 2.0], Some((2.5, 1.0, 4.0))),
            (vec![1.0, 100.0, 1.0], Some((1.0, 1.0, 100.0))),
            (vec![f64::NAN, 5.0], Some((5.0, 5.0, 5.0))),
        ] {
            let got = Spread::of(&values).map(|spread| (spread.median, spread.min, spread.max));
            assert_eq!(got, expected, "{values:?}");
        }
    }

    #[test]
    fn the_exponent_is_that_of_the_power() {
        for power in [0.0, 0.5, 1.0, 2.0] {
            let points: Vec<(f64, f64)> = [1.0, 10.0, 100.0].iter().map(|x: &f64| (*x, 3.0 * x.powf(power))).collect();
            let got = exponent(&points).unwrap();
            assert!((got - power).abs() < 1e-9, "{power}: {got}");
        }
        assert_eq!(exponent(&[(1.0, 1.0)]), None);
        assert_eq!(exponent(&[(2.0, 1.0), (2.0, 5.0)]), None, "one size has no slope");
        assert_eq!(exponent(&[(0.0, 1.0), (1.0, 0.0)]), None, "nothing has no logarithm");
    }

    #[test]
    fn a_fixed_cost_does_not_hide_the_growth_of_the_tail() {
        let points: Vec<(f64, f64)> = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6].iter().map(|x: &f64| (*x, 1e3 + x)).collect();
        assert_eq!(tail(&points).len(), 3);
        assert!(exponent(&tail(&points)).unwrap() > 0.9);
        assert!(exponent(&points).unwrap() < 0.6);
    }
}
