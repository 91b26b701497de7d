//! Do the examples of the docs run, and do they cost what the docs say?
//!
//! In a page, a block ```` ```sql run ```` is carried out, and so is a comment `<!-- sql run … -->`, which readers
//! do not see: what an example needs to stand on. Each section (a heading) has an engine of its own over the
//! scripted model. `<!-- calls 3 -->` says how many calls there were since the last such comment, or, of the
//! first, since the last comment of statements.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use perennial::ask::scripted::{Scripted, ScriptedEmbedder};
use perennial::sql::{Script, Session};
use perennial::{Engine, Runtime};

/// What a page says to be done.
#[derive(Debug, PartialEq)]
enum Step {
    /// A section begins.
    Section,
    /// Statements; they are hidden where readers do not see them.
    Run { sql: String, is_hidden: bool },
    /// So many calls were made.
    Calls(usize),
}

/// The steps of a page, each with its line.
fn steps(page: &str) -> Vec<(usize, Step)> {
    let mut steps = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let mut until = |end: &str| {
            let block = lines.by_ref().map(|(_, line)| line);
            let block: Vec<&str> = block.take_while(|line| *line != end).collect();
            block.join("\n")
        };
        let step = match line {
            "```sql run" => Step::Run {
                sql: until("```"),
                is_hidden: false,
            },
            "<!-- sql run" => Step::Run {
                sql: until("-->"),
                is_hidden: true,
            },
            _ if line.starts_with("```") => {
                until("```");
                continue;
            }
            _ => {
                let calls = line.strip_prefix("<!-- calls ");
                let calls = calls.and_then(|rest| rest.strip_suffix(" -->"));
                match (calls, line.strip_prefix('#')) {
                    (Some(n), _) => Step::Calls(n.parse().expect("a number of calls")),
                    (None, Some(_)) => Step::Section,
                    (None, None) => continue,
                }
            }
        };
        steps.push((at + 1, step));
    }
    steps
}

/// An engine over a scripted model, and the calls that were counted already.
struct Bench {
    session: Session,
    model: Arc<Scripted>,
    n_counted: usize,
}

impl Bench {
    fn new() -> Self {
        let (model, embedder) = (Arc::new(Scripted::new()), ScriptedEmbedder::default());
        let runtime = Runtime::scripted(model.clone(), Arc::new(embedder));
        let engine = Engine::builder(runtime).start().expect("starts");
        Self {
            session: Session::new(engine, "scripted"),
            model,
            n_counted: 0,
        }
    }

    /// The calls since the last time, when all that was said is answered.
    fn take_calls(&mut self) -> usize {
        self.session.engine().flush().expect("is answered");
        let n_calls = self.model.n_calls();
        n_calls - std::mem::replace(&mut self.n_counted, n_calls)
    }
}

/// Carries the steps of a page out; returns what does not hold, and how many blocks readers see were run.
fn carried_out(name: &str, page: &str) -> (Vec<String>, usize) {
    let (mut wrong, mut n_run) = (Vec::new(), 0);
    let mut bench: Option<Bench> = None;
    for (line, step) in steps(page) {
        let at = format!("{name}:{line}");
        match step {
            Step::Section => bench = None,
            Step::Run { sql, is_hidden } => {
                let bench = bench.get_or_insert_with(Bench::new);
                n_run += usize::from(!is_hidden);
                if let Err(error) = bench.session.run(&Script::new(&*at, sql), |_, _| Ok(())) {
                    wrong.push(error.to_string());
                }
                if is_hidden {
                    bench.take_calls();
                }
            }
            Step::Calls(stated) => match &mut bench {
                None => wrong.push(format!("{at}: calls of nothing")),
                Some(bench) => {
                    let n_calls = bench.take_calls();
                    if n_calls != stated {
                        wrong.push(format!(
                            "{at}: {stated} calls are stated, there were {n_calls}"
                        ));
                    }
                }
            },
        }
    }
    (wrong, n_run)
}

fn pages() -> Vec<PathBuf> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let files = std::fs::read_dir(docs).expect("docs").flatten();
    let mut pages: Vec<PathBuf> = files.map(|file| file.path()).collect();
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    pages
}

#[test]
fn examples_that_are_said_to_run_do_and_cost_what_is_stated() {
    let (mut wrong, mut n_run) = (Vec::new(), 0);
    for path in pages() {
        let page = std::fs::read_to_string(&path).expect("a page");
        let (of_page, n) = carried_out(&path.display().to_string(), &page);
        wrong.extend(of_page);
        n_run += n;
    }
    assert_eq!(wrong, [""; 0]);
    assert!(n_run >= 15, "{n_run} blocks were run");
}

#[test]
fn each_operator_has_an_example_that_runs() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let page = std::fs::read_to_string(docs.join("operators.md")).expect("the page");
    let all = steps(&page).into_iter();
    let shown = all.filter_map(|(_, step)| match step {
        Step::Run {
            sql,
            is_hidden: false,
        } => Some(sql.to_lowercase()),
        _ => None,
    });
    let shown: Vec<String> = shown.collect();
    for name in perennial::views::query::SEM_FUNCTIONS {
        assert!(shown.iter().any(|sql| sql.contains(name)), "{name}");
    }
}

#[test]
fn what_does_not_hold_is_found() {
    let page = "# A\n```sql run\nSELECT nonsense FROM nowhere;\n```\n<!-- calls 1 -->\n\
                # B\n<!-- calls 2 -->\n```text\n# no heading\n```\n";
    let (wrong, n_run) = carried_out("page.md", page);
    assert_eq!((wrong.len(), n_run), (3, 1), "{wrong:?}");
    assert!(
        wrong[1].contains("page.md:5: 1 calls are stated, there were 0"),
        "{wrong:?}"
    );
    assert!(wrong[2].contains("page.md:7"), "{wrong:?}");
}
