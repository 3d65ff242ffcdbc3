//! A report as a picture.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::figure::{Result as FigureResult, Series};
use super::report::Report;

const WIDTH: u32 = 1000;
/// Height of one bar with the space around it.
const ROW: u32 = 18;
const CHART: u32 = 320;
/// Bars end here: what is worse is as long as this.
const WORST: f64 = 2.0;
const LABELS: u32 = 430;

/// *Skipped*: there is no picture.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw the plot: {0}")]
pub struct PlotError(String);

fn failed(error: impl std::fmt::Display) -> PlotError {
    PlotError(error.to_string())
}

/// Draws the figures that have goals, as shares of them, and below all series; the text of an SVG document.
///
/// # Errors
/// [`PlotError`].
pub fn plot(report: &Report) -> Result<String, PlotError> {
    let bars = bars(report);
    let charts = charts(report);
    let top = (bars.len() as u32 + 4) * ROW;
    let mut text = String::new();
    {
        let height = top + charts.len() as u32 * CHART;
        let root = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let (upper, lower) = root.split_vertically(top);
        draw_bars(&upper, &bars, &report.date)?;
        for (area, (title, series)) in lower.split_evenly((charts.len().max(1), 1)).iter().zip(&charts) {
            draw_chart(area, title, series)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(text)
}

struct Bar {
    label: String,
    /// Value by goal; a goal of 0 is met by 0 alone.
    share: f64,
}

fn bars(report: &Report) -> Vec<Bar> {
    let bar = |server: &str, figure: &FigureResult| {
        let goal = figure.goal?;
        let share = if goal > 0.0 { figure.median / goal } else { figure.median.signum() * WORST };
        let label = format!(
            "{server}: {} {} {}: {:.4} {}",
            figure.number, figure.phase, figure.name, figure.median, figure.unit
        );
        Some(Bar { label, share })
    };
    let all = report.targets.iter().flat_map(|target| target.figures.iter().map(move |f| (target, f)));
    all.filter_map(|(target, figure)| bar(&target.name, figure)).collect()
}

/// Series by what their axes count, with the server's name on each.
fn charts(report: &Report) -> Vec<(String, Vec<(String, &Series)>)> {
    let mut charts: Vec<(String, Vec<(String, &Series)>)> = Vec::new();
    for target in &report.targets {
        for series in &target.series {
            let (title, named) =
                (format!("{} by {}", series.y, series.x), format!("{}: {}", target.name, series.name));
            match charts.iter_mut().find(|(known, _)| *known == title) {
                Some((_, all)) => all.push((named, series)),
                None => charts.push((title, vec![(named, series)])),
            }
        }
    }
    charts
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw_bars(area: &Area<'_>, bars: &[Bar], date: &str) -> Result<(), PlotError> {
    let title = format!("Figures by their goals, {date}: green is met");
    let area = area.titled(&title, ("sans-serif", 16)).map_err(failed)?;
    let width = f64::from(WIDTH - LABELS - 20);
    let x = |share: f64| LABELS as i32 + (width * share.min(WORST) / WORST) as i32;
    for (row, bar) in bars.iter().enumerate() {
        let top = (row as i32 + 1) * ROW as i32;
        let colour = if bar.share <= 1.0 { RGBColor(46, 139, 87) } else { RGBColor(200, 60, 50) };
        let shape = [(LABELS as i32, top), (x(bar.share.max(0.004)), top + ROW as i32 - 5)];
        area.draw(&Rectangle::new(shape, colour.filled())).map_err(failed)?;
        area.draw(&Text::new(bar.label.clone(), (8, top), ("sans-serif", 12))).map_err(failed)?;
    }
    let bottom = (bars.len() as i32 + 1) * ROW as i32;
    area.draw(&PathElement::new([(x(1.0), ROW as i32), (x(1.0), bottom)], BLACK)).map_err(failed)?;
    area.draw(&Text::new("goal", (x(1.0) - 12, bottom + 2), ("sans-serif", 12))).map_err(failed)
}

fn draw_chart(area: &Area<'_>, title: &str, all: &[(String, &Series)]) -> Result<(), PlotError> {
    let points = || all.iter().flat_map(|(_, series)| series.points.iter());
    let most = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(1e-3, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..most(|point| point.0), 0.0..most(|point| point.1) * 1.05)
        .map_err(failed)?;
    chart.configure_mesh().draw().map_err(failed)?;
    for (number, (name, series)) in all.iter().enumerate() {
        let colour = Palette99::pick(number).to_rgba();
        let line = LineSeries::new(series.points.iter().copied(), colour.stroke_width(2));
        let drawn = chart.draw_series(line).map_err(failed)?;
        drawn.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
    }
    let labels =
        chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).border_style(BLACK).draw();
    labels.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::super::Sizes;
    use super::super::figure::{Figure, collect};
    use super::super::report::{Machine, TargetReport};
    use super::*;

    fn report() -> Report {
        let mut figures = Vec::new();
        let measured = vec![
            Figure::new("P1", "CPU per <proxy>", 2.0, "ms").at_most(1.0),
            Figure::new("P2", "refused", 0.0, "").at_most(0.0),
            Figure::new("", "no goal", 1.0, "ms"),
        ];
        collect(&mut figures, "storm", measured);
        let series = vec![Series {
            name: "idle".into(),
            x: "percentile".into(),
            y: "ms".into(),
            points: vec![(0.0, 1.0), (100.0, 4.0)],
        }];
        let target = TargetReport { name: "tombolo".into(), figures, series, skipped: Vec::new() };
        let machine = Machine { cores: 2, memory_mib: 1, kernel: String::new(), load: String::new() };
        Report {
            date: "2026-01-01".into(),
            version: "0".into(),
            machine,
            sizes: Sizes::QUICK,
            quick: true,
            repeat: 1,
            targets: vec![target],
        }
    }

    #[test]
    fn a_plot_shows_goals_and_series_and_escapes_names() {
        let svg = plot(&report()).unwrap();
        assert!(svg.trim_start().starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains("P1 storm CPU per &lt;proxy&gt;: 2.0000 ms"), "{svg}");
        assert!(svg.contains("P2 storm refused") && !svg.contains("no goal"));
        assert!(svg.contains("ms by percentile") && svg.contains("tombolo: idle"));
    }

    #[test]
    fn an_empty_report_is_an_empty_plot() {
        let empty = Report { targets: Vec::new(), ..report() };
        assert!(plot(&empty).unwrap().contains("</svg>"));
    }
}
