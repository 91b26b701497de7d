//! How does the time to an answer grow with what stands before the question?

use std::path::Path;

use plotters::style::RGBColor;

use crate::curve::Point;
use crate::rig::Error;
use crate::rig::plot::{self, Curve, Labels};

/// Draws time against tokens.
pub fn draw(path: &Path, model: &str, points: &[Point]) -> Result<(), Error> {
    let labels = Labels {
        caption: format!("One passage replaced: time to an answer of {model}"),
        x: "tokens of passages",
        y: "seconds to an answer of 64 tokens",
    };
    plot::draw(path, &labels, curves(points))
}

fn curves(points: &[Point]) -> Vec<Curve> {
    let curve = |seconds: &dyn Fn(&Point) -> Option<f64>| -> Vec<(f64, f64)> {
        let seen = |point: &Point| Some((point.n_tokens as f64, seconds(point)?));
        points.iter().filter_map(seen).collect()
    };
    vec![
        (
            "from scratch",
            RGBColor(214, 39, 40),
            curve(&|p| Some(p.scratch.wall_s)),
        ),
        (
            "prefix cache",
            RGBColor(44, 160, 44),
            curve(&|p| Some(p.prefix_cache.wall_s)),
        ),
        (
            "EVENTUAL",
            RGBColor(31, 119, 180),
            curve(&|p| Some(p.eventual.wall_s)),
        ),
        (
            "BOUNDED",
            RGBColor(255, 127, 14),
            curve(&|p| Some(p.bounded.wall_s)),
        ),
        (
            "llama.cpp, prompt cache",
            RGBColor(127, 127, 127),
            curve(&|p| Some(p.peer?.1.wall_s)),
        ),
    ]
}
