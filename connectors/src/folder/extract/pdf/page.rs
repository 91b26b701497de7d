//! What does a page draw that is text?
//!
//! Of the operators of ISO 32000-1 those that move, choose a font or show a string are carried out,
//! and those that draw another piece of the file (`Do`). All others change nothing here.

use std::collections::BTreeMap;
use std::rc::Rc;

use lopdf::content::{Content, Operation};
use lopdf::{Dictionary, Document, Object, ObjectId};

use super::font::{Font, Fonts};
use super::layout::{Layout, Point, Span};
use super::refused;
use super::{DRAWN_LIMIT, STREAM_LIMIT};
use crate::{Rejection, StopFlag};

/// Pieces of a file that draw one another.
pub(super) const MAX_DEPTH: usize = 8;
/// States that are kept within one another.
const MAX_STATES: usize = 256;
/// Operators between two looks at the flag.
const LOOK_EVERY: usize = 1024;

/// `[a b 0; c d 0; e f 1]`: points are rows that it is multiplied to from the right.
#[derive(Clone, Copy, Debug)]
struct Matrix([f32; 6]);

impl Matrix {
    const IDENTITY: Self = Self([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);

    fn shift(x: f32, y: f32) -> Self {
        Self([1.0, 0.0, 0.0, 1.0, x, y])
    }

    /// This one, then the other.
    fn then(&self, other: &Self) -> Self {
        let ([a, b, c, d, e, f], [p, q, r, s, t, u]) = (self.0, other.0);
        Self([
            a * p + b * r,
            a * q + b * s,
            c * p + d * r,
            c * q + d * s,
            e * p + f * r + t,
            e * q + f * s + u,
        ])
    }

    fn apply(&self, x: f32, y: f32) -> Point {
        let [a, b, c, d, e, f] = self.0;
        Point {
            x: x * a + y * c + e,
            y: x * b + y * d + f,
        }
    }

    /// How long something of unit height becomes.
    fn height(&self) -> f32 {
        self.0[2].hypot(self.0[3])
    }
}

/// What is in force where text is shown.
#[derive(Clone)]
struct State {
    /// From the page's own units.
    page: Matrix,
    font: Option<Rc<Font>>,
    size: f32,
    /// Between letters, and besides at blanks.
    letter_space: f32,
    word_space: f32,
    stretch: f32,
    leading: f32,
    rise: f32,
}

/// A page under way.
pub(super) struct Painter<'a, 'b> {
    file: &'a Document,
    fonts: &'b mut Fonts<'a>,
    layout: &'b mut Layout,
    /// How many bytes may still be drawn.
    left: &'b mut usize,
    stop: &'b StopFlag,
    state: State,
    states: Vec<State>,
    /// Where the next letter and the line stand.
    at: Matrix,
    line: Matrix,
}

/// What names within a piece of the file stand for.
#[derive(Default)]
struct Resources<'a> {
    fonts: BTreeMap<Vec<u8>, &'a Dictionary>,
    others: Vec<&'a Dictionary>,
}

impl<'a, 'b> Painter<'a, 'b> {
    /// Puts the text of a page into a layout.
    pub(super) fn paint(
        file: &'a Document,
        page: ObjectId,
        fonts: &'b mut Fonts<'a>,
        layout: &'b mut Layout,
        left: &'b mut usize,
        stop: &'b StopFlag,
    ) -> Result<(), Rejection> {
        let content = file.get_page_content_with_limit(page, STREAM_LIMIT);
        let content = content.map_err(refused)?;
        let (direct, ids) = file.get_page_resources(page).map_err(refused)?;
        let named = ids.iter().filter_map(|id| file.get_dictionary(*id).ok());
        let resources = Resources {
            fonts: file.get_page_fonts(page).map_err(refused)?,
            others: direct.into_iter().chain(named).collect(),
        };
        let mut painter = Self {
            file,
            fonts,
            layout,
            left,
            stop,
            state: State {
                page: Matrix::IDENTITY,
                font: None,
                size: 0.0,
                letter_space: 0.0,
                word_space: 0.0,
                stretch: 1.0,
                leading: 0.0,
                rise: 0.0,
            },
            states: Vec::new(),
            at: Matrix::IDENTITY,
            line: Matrix::IDENTITY,
        };
        painter.run(&content, &resources, 0)
    }

    fn run(
        &mut self,
        content: &[u8],
        resources: &Resources<'a>,
        depth: usize,
    ) -> Result<(), Rejection> {
        let left = self.left.checked_sub(content.len());
        *self.left = left.ok_or(Rejection::Unpacked {
            what: "drawing",
            limit: DRAWN_LIMIT as u64,
        })?;
        for (number, operation) in Content::decode_iter(content).enumerate() {
            let is_over = self.layout.is_full() || number % LOOK_EVERY == 0 && self.stop.raised();
            // What is damaged draws what it drew before.
            let Ok(operation) = operation else { break };
            if is_over {
                break;
            }
            self.step(&operation, resources, depth)?;
        }
        Ok(())
    }

    fn step(
        &mut self,
        operation: &Operation,
        resources: &Resources<'a>,
        depth: usize,
    ) -> Result<(), Rejection> {
        let operands = &operation.operands[..];
        let number = |at: usize| operands.get(at).and_then(|found| found.as_float().ok());
        let last = || number(0).unwrap_or_default();
        match operation.operator.as_str() {
            "q" if self.states.len() < MAX_STATES => self.states.push(self.state.clone()),
            "Q" => {
                if let Some(state) = self.states.pop() {
                    self.state = state;
                }
            }
            "cm" => {
                if let Some(matrix) = matrix(operands) {
                    self.state.page = matrix.then(&self.state.page);
                }
            }
            "BT" => {
                self.at = Matrix::IDENTITY;
                self.line = Matrix::IDENTITY;
            }
            "Tf" => {
                let name = operands.first().and_then(|name| name.as_name().ok());
                let font = name.and_then(|name| resources.fonts.get(name));
                self.state.font = font.map(|font| self.fonts.get(font)).transpose()?;
                self.state.size = number(1).unwrap_or_default();
            }
            "Tc" => self.state.letter_space = last(),
            "Tw" => self.state.word_space = last(),
            "Tz" => self.state.stretch = last() / 100.0,
            "TL" => self.state.leading = last(),
            "Ts" => self.state.rise = last(),
            "Tm" => {
                if let Some(matrix) = matrix(operands) {
                    self.line = matrix;
                    self.at = matrix;
                }
            }
            "Td" => self.next_line(last(), number(1).unwrap_or_default()),
            "TD" => {
                self.state.leading = -number(1).unwrap_or_default();
                self.next_line(last(), number(1).unwrap_or_default());
            }
            "T*" => self.next_line(0.0, -self.state.leading),
            "Tj" => self.show(operands.first()),
            "'" => {
                self.next_line(0.0, -self.state.leading);
                self.show(operands.first());
            }
            "\"" => {
                self.state.word_space = last();
                self.state.letter_space = number(1).unwrap_or_default();
                self.next_line(0.0, -self.state.leading);
                self.show(operands.get(2));
            }
            "TJ" => {
                let pieces = operands.first().and_then(|pieces| pieces.as_array().ok());
                for piece in pieces.into_iter().flatten() {
                    match piece.as_float() {
                        Ok(back) => {
                            let x = -back / 1000.0 * self.state.size * self.state.stretch;
                            self.at = Matrix::shift(x, 0.0).then(&self.at);
                        }
                        Err(_) => self.show(Some(piece)),
                    }
                }
            }
            "Do" if depth < MAX_DEPTH => {
                let name = operands.first().and_then(|name| name.as_name().ok());
                if let Some(name) = name {
                    self.draw(name, resources, depth)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn next_line(&mut self, x: f32, y: f32) {
        self.line = Matrix::shift(x, y).then(&self.line);
        self.at = self.line;
    }

    /// Shows a string, and goes to where it ends.
    fn show(&mut self, string: Option<&Object>) {
        let Some(Ok(bytes)) = string.map(Object::as_str) else {
            return;
        };
        let Some(font) = self.state.font.clone() else {
            return;
        };
        let state = &self.state;
        let mut words = String::new();
        let mut width = 0.0;
        for letter in font.letters(bytes) {
            words.push_str(&letter.words);
            let blank = match letter.is_blank {
                true => state.word_space,
                false => 0.0,
            };
            width += (letter.width * state.size + state.letter_space + blank) * state.stretch;
        }
        let onto = self.at.then(&state.page);
        let span = Span {
            begin: onto.apply(0.0, state.rise),
            end: onto.apply(width, state.rise),
            size: (onto.height() * state.size).abs(),
        };
        self.at = Matrix::shift(width, 0.0).then(&self.at);
        self.layout.put(&words, span);
    }

    /// Draws another piece of the file, if it is one that draws.
    fn draw(
        &mut self,
        name: &[u8],
        resources: &Resources<'a>,
        depth: usize,
    ) -> Result<(), Rejection> {
        let file = self.file;
        let named = resources.others.iter().find_map(|others| {
            let pieces = others.get_deref(b"XObject", file).ok()?.as_dict().ok()?;
            pieces.get_deref(name, file).ok()?.as_stream().ok()
        });
        let Some(piece) = named else { return Ok(()) };
        let kind = piece.dict.get(b"Subtype").and_then(Object::as_name);
        if kind.unwrap_or_default() != b"Form" {
            return Ok(());
        }
        let content = piece.get_plain_content_with_limit(STREAM_LIMIT);
        let content = content.map_err(refused)?;
        let own = piece.dict.get_deref(b"Resources", file);
        let own = own.and_then(Object::as_dict).ok();
        let own = own.map(|own| Resources {
            fonts: fonts_of(file, own),
            others: vec![own],
        });
        let before = self.state.clone();
        let states = std::mem::take(&mut self.states);
        let place = piece.dict.get_deref(b"Matrix", file);
        if let Some(place) = place
            .and_then(Object::as_array)
            .ok()
            .and_then(|of| matrix(of))
        {
            self.state.page = place.then(&self.state.page);
        }
        // Files of old leave it to what is around.
        let drawn = self.run(&content, own.as_ref().unwrap_or(resources), depth + 1);
        self.state = before;
        self.states = states;
        drawn
    }
}

fn matrix(operands: &[Object]) -> Option<Matrix> {
    let mut matrix = [0.0; 6];
    for (at, value) in matrix.iter_mut().enumerate() {
        *value = operands.get(at)?.as_float().ok()?;
    }
    Some(Matrix(matrix))
}

fn fonts_of<'a>(
    file: &'a Document,
    resources: &'a Dictionary,
) -> BTreeMap<Vec<u8>, &'a Dictionary> {
    let fonts = resources.get_deref(b"Font", file).and_then(Object::as_dict);
    let fonts = fonts.ok().into_iter().flat_map(|fonts| fonts.iter());
    let each = fonts.filter_map(|(name, font)| {
        let (_, font) = file.dereference(font).ok()?;
        Some((name.clone(), font.as_dict().ok()?))
    });
    each.collect()
}
