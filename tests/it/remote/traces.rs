//! Which requests did an answer take?

use super::*;
use crate::collector::{Collector, SeenSpan, named};

#[test]
fn an_answer_names_the_requests_that_it_took() {
    let (collector, stub) = (Collector::start(), Stub::new(Dialect::LlamaCpp));
    let traces = collector.traces();
    let builder = Engine::builder(runtime(&stub))
        .table("notes")
        .table("questions")
        .view(answers().max_tokens(40));
    let engine = builder.traced(traces.tracer()).start().expect("starts");
    let answered = |text: &str, n: usize| -> Vec<SeenSpan> {
        engine.upsert("notes", "hours", text).expect("runs");
        engine.flush().expect("runs");
        collector.until("it is answered", |spans| {
            named(spans, "answer answers").count() == n
        })
    };
    engine
        .upsert("questions", "q", "library inquisitive")
        .expect("runs");
    let spans = answered("The library opens at nine.", 1);
    let answer = named(&spans, "answer answers").next().expect("one");
    let requests: Vec<&SeenSpan> = named(&spans, "POST").collect();
    assert_eq!(requests.len(), 1, "{spans:#?}");
    assert!(requests[0].is_below(answer) && !requests[0].is_error);
    let url = format!("{}/chat/completions", stub.url());
    assert_eq!(requests[0].says("url.full"), url);
    assert_eq!(requests[0].says("http.response.status_code"), "200");

    // One that fails is told with the answer that comes in the end.
    stub.trouble([Trouble::Fails]);
    let spans = answered("The library opens at ten.", 2);
    let answer = named(&spans, "answer answers").last().expect("two");
    let of_answer = named(&spans, "POST").filter(|request| request.is_below(answer));
    let of_answer: Vec<&SeenSpan> = of_answer.collect();
    assert!(of_answer.len() >= 2, "{spans:#?}");
    assert!(of_answer[0].is_error);
    assert_eq!(of_answer[0].says("http.response.status_code"), "500");
    assert!(of_answer.last().is_some_and(|last| !last.is_error));
    assert!(!answer.is_error);
    drop(engine);
    drop(traces);
    assert!(!collector.was_told(&["inquisitive", "opens at"]));
}
