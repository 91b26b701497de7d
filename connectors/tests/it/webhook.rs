//! Answers as a server receives them that fails now and then.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use perennial_connectors::{
    Delivery, Output, OutputAnswer, OutputRow, OutputTuple, Sink as _, StopFlag, Webhook,
};
use perennial_rows::Value;

use crate::receiver::{Act, Got, Receiver};

fn delivery(epoch: u64, n_rows: usize) -> Delivery {
    let row = |i| OutputRow {
        key: format!("q{i}"),
        output: (i > 0)
            .then(|| OutputAnswer {
                question: "Why?".to_owned(),
                text: Ok(format!("Because of {i}.")),
                rung: "verify".to_owned(),
                is_exact: true,
                drift: 0.25,
                sources: vec!["a.md".to_owned()],
                passages: None,
            })
            .map(Output::Answer),
    };
    Delivery {
        origin: 0xf1,
        view: "answers".to_owned(),
        epoch,
        rows: (0..n_rows).map(row).collect(),
    }
}

fn keys(got: &[Got]) -> Vec<String> {
    got.iter().map(|got| got.key().to_owned()).collect()
}

#[test]
fn a_delivery_is_posted_in_signed_parts() {
    let receiver = Receiver::start([]);
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let url = receiver.url().replace("http://", "http://robot:hunter2@");
    let hook = Webhook::open(&url).unwrap().secret(secret).unwrap();
    let mut hook = hook.part_bytes(300);
    let delivery = delivery(7, 5);
    hook.deliver(&delivery, &StopFlag::new()).unwrap();
    let got = receiver.got();
    assert!(got.len() > 1, "{got:?}");
    let mut rows = Vec::new();
    for (number, got) in (1..).zip(&got) {
        let body = got.json();
        assert_eq!(body["origin"], "00000000000000f1");
        assert_eq!(
            (&body["view"], &body["epoch"]),
            (&"answers".into(), &7.into())
        );
        assert_eq!(body["part"], number);
        assert_eq!(body["parts"], receiver.got().len());
        rows.extend(body["rows"].as_array().unwrap().clone());
        let prefix = format!("00000000000000f1-answers-7-{number}-");
        assert!(got.key().starts_with(&prefix), "{}", got.key());
        let header = |name: &str| got.headers[name].as_str();
        assert_eq!(header("webhook-id"), got.key());
        assert_eq!(header("content-type"), "application/json");
        assert_eq!(header("authorization"), "Basic cm9ib3Q6aHVudGVyMg==");
        // As a receiver checks it.
        let base64 = base64::engine::general_purpose::STANDARD;
        let secret = base64.decode(&secret["whsec_".len()..]).unwrap();
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&secret).unwrap();
        mac.update(format!("{}.{}.", got.key(), header("webhook-timestamp")).as_bytes());
        mac.update(&got.bytes);
        let signature = header("webhook-signature").strip_prefix("v1,").unwrap();
        mac.verify_slice(&base64.decode(signature).unwrap())
            .unwrap();
    }
    let expected: Vec<_> = delivery
        .rows
        .iter()
        .map(|row| delivery.row_json(row))
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn what_is_no_success_is_an_error_that_says_so() {
    let receiver = Receiver::start([]);
    receiver.then([
        Act::Answer(500, "", "out of\norder"),
        Act::Answer(503, "retry-after: 7\r\n", ""),
        Act::Answer(302, "location: http://127.0.0.1:9/elsewhere\r\n", ""),
        Act::Answer(404, "", ""),
        Act::Cut,
        Act::TakeAndCut,
        Act::Late(Duration::from_secs(20)),
    ]);
    let url = receiver.url().replace("http://", "http://robot:hunter2@");
    let hook = Webhook::open(&url).unwrap();
    let mut hook = hook.patience(Duration::from_secs(2));
    for says in [
        "500 Internal Server Error: out of order",
        "503",
        "302",
        "404",
        "",
        "",
        "timeout",
    ] {
        let error = hook.deliver(&delivery(7, 1), &StopFlag::new()).unwrap_err();
        let asked = error.retry_after();
        assert_eq!(asked, (says == "503").then_some(Duration::from_secs(7)));
        let error = error.to_string();
        assert!(
            error.contains(says) && !error.contains("hunter2"),
            "{error}"
        );
        assert!(error.starts_with(&receiver.url()), "{error}");
    }
    hook.deliver(&delivery(7, 1), &StopFlag::new()).unwrap();
    // Whatever happened, it is one part.
    assert_eq!(receiver.taken().len(), 1);
    let nobody = receiver.url();
    drop(receiver);
    let mut hook = Webhook::open(&nobody).unwrap();
    assert!(hook.deliver(&delivery(8, 1), &StopFlag::new()).is_err());
}

#[test]
fn parts_that_were_taken_come_again_only_after_a_restart_and_are_the_same() {
    let ok = Act::Answer(204, "", "");
    let receiver = Receiver::start([ok, ok, Act::Answer(500, "", "")]);
    let open = || Webhook::open(&receiver.url()).unwrap().part_bytes(1);
    let mut hook = open();
    let (delivery, stop) = (delivery(7, 4), StopFlag::new());
    hook.deliver(&delivery, &stop).unwrap_err();
    hook.deliver(&delivery, &stop).unwrap();
    let got = receiver.got();
    let of = |got: &Got| got.json()["part"].as_u64().unwrap();
    assert_eq!(got.iter().map(of).collect::<Vec<_>>(), [1, 2, 3, 3, 4]);
    open().deliver(&delivery, &stop).unwrap();
    assert_eq!(receiver.got().len(), 9);
    let taken = receiver.taken();
    assert_eq!(taken.iter().map(of).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(keys(&receiver.got()[5..]), keys(&taken));
}

#[test]
fn a_delivery_whose_rows_were_cut_in_between_has_keys_of_its_own() {
    let receiver = Receiver::start([Act::Answer(200, "", ""), Act::Answer(500, "", "")]);
    let mut hook = Webhook::open(&receiver.url()).unwrap().part_bytes(1);
    let (mut delivery, stop) = (delivery(7, 3), StopFlag::new());
    hook.deliver(&delivery, &stop).unwrap_err();
    // As when something is forgotten: the second row becomes the first.
    delivery.rows.remove(0);
    hook.deliver(&delivery, &stop).unwrap();
    let mut rows = Vec::new();
    for got in receiver.taken() {
        rows.extend(
            got.json()["rows"]
                .as_array()
                .unwrap()
                .iter()
                .map(|r| r["key"].clone()),
        );
    }
    assert_eq!(rows, ["q0", "q1", "q2"]);
}

#[test]
fn a_receiver_that_hangs_does_not_hold_up_the_end() {
    let receiver = Receiver::start([Act::Late(Duration::from_secs(20))]);
    let mut hook = Webhook::open(&receiver.url()).unwrap();
    let stop = StopFlag::new();
    let raiser = std::thread::spawn({
        let stop = stop.clone();
        move || {
            receiver.until(|taken| !taken.is_empty());
            stop.raise();
            receiver
        }
    });
    let error = hook.deliver(&delivery(7, 1), &stop).unwrap_err();
    assert!(error.to_string().contains("stopped"), "{error}");
    raiser.join().unwrap();
}

#[test]
fn rows_of_a_query_are_posted_by_their_columns() {
    let receiver = Receiver::start([]);
    let mut hook = Webhook::open(&receiver.url()).unwrap();
    let row = |n: i64| OutputRow {
        key: format!("[{n}]"),
        output: (n > 0).then(|| {
            Output::Tuple(OutputTuple {
                columns: ["n", "since"].map(Arc::from).into(),
                values: [n.into(), Value::Timestamp(7)].into(),
                count: 1,
            })
        }),
    };
    let delivery = Delivery {
        origin: 0xf1,
        view: "totals".to_owned(),
        epoch: 7,
        rows: vec![row(0), row(1)],
    };
    hook.deliver(&delivery, &StopFlag::new()).unwrap();
    let expected = serde_json::json!({
        "origin": "00000000000000f1", "view": "totals", "epoch": 7, "part": 1, "parts": 1,
        "rows": [
            {"view": "totals", "key": "[0]", "epoch": 7, "gone": true},
            {"view": "totals", "key": "[1]", "epoch": 7, "row": {"n": 1, "since": 7}},
        ],
    });
    assert_eq!(receiver.got()[0].json(), expected);
}
