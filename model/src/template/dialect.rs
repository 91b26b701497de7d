//! The Jinja that chat templates are written for, where it differs from plain Jinja.

use minijinja::{Environment, Error, ErrorKind, State, Value, value::Kwargs};

/// Steps that one rendering may take. A long conversation takes some thousands.
const MAX_STEPS: u64 = 10_000_000;

/// What `strftime_now` formats: a prompt must not change overnight. It is the date that
/// Llama's own templates fall back to, a Friday.
const DATE: [(char, &str); 13] = [
    ('d', "26"),
    ('m', "07"),
    ('Y', "2024"),
    ('y', "24"),
    ('b', "Jul"),
    ('B', "July"),
    ('a', "Fri"),
    ('A', "Friday"),
    ('H', "00"),
    ('M', "00"),
    ('S', "00"),
    ('j', "208"),
    ('%', "%"),
];

/// An environment with the dialect's functions and filters.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_fuel(Some(MAX_STEPS));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", tojson);
    environment
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime_now(format: &str) -> Result<String, Error> {
    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let directive = rest.next().unwrap_or('%');
        match DATE.iter().find(|(known, _)| *known == directive) {
            Some((_, text)) => out.push_str(text),
            None => {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("strftime_now: directive %{directive} is not known"),
                ));
            }
        }
    }
    Ok(out)
}

/// JSON as Python writes it: a blank after commas and colons, nothing escaped for HTML.
fn tojson(_: &State<'_, '_>, value: &Value, options: Kwargs) -> Result<Value, Error> {
    let failed = |error: serde_json::Error| {
        Error::new(ErrorKind::InvalidOperation, "tojson").with_source(error)
    };
    let indent: Option<usize> = options.get("indent")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let mut out = Vec::new();
    match indent {
        Some(n) => {
            let blanks = " ".repeat(n.min(16));
            let formatter = serde_json::ser::PrettyFormatter::with_indent(blanks.as_bytes());
            let mut json = serde_json::Serializer::with_formatter(&mut out, formatter);
            serde::Serialize::serialize(value, &mut json).map_err(failed)?;
        }
        None => {
            let mut json = serde_json::Serializer::with_formatter(&mut out, Python);
            serde::Serialize::serialize(value, &mut json).map_err(failed)?;
        }
    }
    let text = String::from_utf8(out).expect("JSON is UTF-8");
    Ok(Value::from_safe_string(text))
}

/// Separators of Python's `json.dumps`.
struct Python;

fn separate<W: ?Sized + std::io::Write>(writer: &mut W, first: bool) -> std::io::Result<()> {
    if first {
        return Ok(());
    }
    writer.write_all(b", ")
}

impl serde_json::ser::Formatter for Python {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        separate(writer, first)
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        separate(writer, first)
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}
