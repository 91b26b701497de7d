//! How does a time grow with a size? Curves over logarithmic axes.

use std::ops::Range;
use std::path::Path;

use plotters::prelude::*;

use super::Error;

/// A line of a picture: its label, its colour, its points.
pub type Curve = (&'static str, RGBColor, Vec<(f64, f64)>);

/// What stands around the curves.
pub struct Labels<'a> {
    /// Above.
    pub caption: String,
    /// Along x.
    pub x: &'a str,
    /// Along y.
    pub y: &'a str,
}

/// Draws curves as SVG; those without points are left out.
pub fn draw(path: &Path, labels: &Labels<'_>, mut curves: Vec<Curve>) -> Result<(), Error> {
    curves.retain(|(.., curve)| !curve.is_empty());
    let all = || curves.iter().flat_map(|(.., curve)| curve.iter().copied());
    let (x, y) = (span(all().map(|p| p.0)), span(all().map(|p| p.1)));
    let mut sizes: Vec<f64> = all().map(|p| p.0).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    let seconds = one_two_five(&y);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let area = SVGBackend::new(path, (720, 480)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(&labels.caption, ("sans-serif", 18))
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(
            x.log_scale().with_key_points(sizes),
            y.log_scale().with_key_points(seconds),
        )?;
    chart
        .configure_mesh()
        .x_desc(labels.x)
        .y_desc(labels.y)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y}"))
        .draw()?;
    for (label, color, curve) in curves {
        chart
            .draw_series(LineSeries::new(curve, color.stroke_width(2)).point_size(3))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}

/// The numbers 1, 2 and 5 times a power of ten that lie in a range.
fn one_two_five(range: &Range<f64>) -> Vec<f64> {
    let powers = (-4..7).map(|power| 10f64.powi(power));
    let numbers = powers.flat_map(|power| [power, 2.0 * power, 5.0 * power]);
    numbers.filter(|x| range.contains(x)).collect()
}

/// From somewhat below the least to somewhat above the greatest.
fn span(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (least, greatest) = values.fold((f64::MAX, f64::MIN_POSITIVE), |(least, greatest), x| {
        (least.min(x), greatest.max(x))
    });
    least * 0.7..greatest * 1.5
}
