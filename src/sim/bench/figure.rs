//! Figures, their goals, and what many runs say together.

use serde::{Deserialize, Serialize};

/// One measured value.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// The number of the target it belongs to, such as `P1`; empty if there is none.
    pub number: &'static str,
    /// What it is.
    pub name: String,
    /// Its unit.
    pub unit: &'static str,
    /// The most it should be.
    pub goal: Option<f64>,
    /// The value.
    pub value: f64,
}

impl Figure {
    /// A value without a goal.
    pub(super) fn new(number: &'static str, name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { number, name: name.into(), unit, goal: None, value }
    }

    /// The same with the most it should be.
    pub(super) fn at_most(self, goal: f64) -> Self {
        Self { goal: Some(goal), ..self }
    }
}

/// Points to plot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// What it is.
    pub name: String,
    /// What x counts.
    pub x: String,
    /// What y counts.
    pub y: String,
    /// The points, by x.
    pub points: Vec<(f64, f64)>,
}

/// A figure of all runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Result {
    /// The phase it comes from.
    pub phase: String,
    /// As in [`Figure`].
    pub number: String,
    /// As in [`Figure`].
    pub name: String,
    /// As in [`Figure`].
    pub unit: String,
    /// As in [`Figure`].
    pub goal: Option<f64>,
    /// The value of each run, in order.
    pub values: Vec<f64>,
    /// Their median.
    pub median: f64,
}

impl Result {
    /// Whether the goal is met; `None` if there is none.
    pub fn is_met(&self) -> Option<bool> {
        self.goal.map(|goal| self.median <= goal)
    }
}

/// Adds the figures of one run of `phase` to the results so far.
pub(super) fn collect(results: &mut Vec<Result>, phase: &str, figures: Vec<Figure>) {
    for figure in figures {
        let same = |result: &&mut Result| result.phase == phase && result.name == figure.name;
        match results.iter_mut().find(same) {
            Some(result) => {
                result.values.push(figure.value);
                result.median = median(&result.values);
            }
            None => results.push(Result {
                phase: phase.to_owned(),
                number: figure.number.to_owned(),
                name: figure.name,
                unit: figure.unit.to_owned(),
                goal: figure.goal,
                values: vec![figure.value],
                median: figure.value,
            }),
        }
    }
}

/// The middle value, or the mean of the two in the middle; 0 of none.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => 0.0,
        (length, middle) if length % 2 == 1 => sorted[middle],
        (_, middle) => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The slope of the line that fits `points` best; 0 if there is no such line.
pub(super) fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let (mut both, mut square) = (0.0, 0.0);
    for point in points {
        both += (point.0 - x) * (point.1 - y);
        square += (point.0 - x).powi(2);
    }
    if square > 0.0 { both / square } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_the_runs_of_one_figure() {
        let mut results = Vec::new();
        for value in [3.0, 1.0, 2.0, 9.0] {
            let figures =
                vec![Figure::new("P1", "a", value, "ms").at_most(2.0), Figure::new("", "b", 1.0, "ms")];
            collect(&mut results, "storm", figures);
        }
        collect(&mut results, "warm", vec![Figure::new("P19", "a", 7.0, "ms")]);
        let brief: Vec<_> =
            results.iter().map(|r| (r.phase.as_str(), r.name.as_str(), r.median, r.is_met())).collect();
        assert_eq!(
            brief,
            [("storm", "a", 2.5, Some(false)), ("storm", "b", 1.0, None), ("warm", "a", 7.0, None)]
        );
        assert_eq!(results[0].values, [3.0, 1.0, 2.0, 9.0]);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn slopes_are_of_the_line_that_fits_best() {
        let line: Vec<_> = (0..5).map(|x| (f64::from(x), 3.0 + 2.0 * f64::from(x))).collect();
        assert!((slope(&line) - 2.0).abs() < 1e-9);
        assert!((slope(&[(0.0, 0.0), (1.0, 1.0), (2.0, 1.0)]) - 0.5).abs() < 1e-9);
        assert_eq!(slope(&[(1.0, 1.0), (1.0, 2.0)]), 0.0);
        assert_eq!(slope(&[]), 0.0);
    }
}
