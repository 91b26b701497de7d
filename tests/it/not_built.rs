//! What a program without features says to whoever asks for what they bring.

use std::fs;
use std::process::Command;

#[test]
fn what_is_missing_is_told_before_a_model_is_opened() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().to_str().expect("UTF-8");
    let table = dir.path().join("faq.parquet");
    fs::write(&table, "PAR1").expect("writable");
    let table = table.to_str().expect("UTF-8");
    for (args, feature) in [
        (vec!["kafka://a:1/docs", "Q?"], "kafka"),
        (vec![folder, "Q?", "--contexts", "kafka://a:1/q"], "kafka"),
        (vec![folder, "Q?", "--sink", "kafka://a:1/out"], "kafka"),
        (vec![table, "Q?"], "parquet"),
        (vec!["Q?", "--listen", "127.0.0.1:0"], "http"),
        (
            vec!["--listen", "127.0.0.1:0", "--contexts", "http"],
            "http",
        ),
        (vec![folder, "Q?", "--sink", "https://a/b"], "http"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_perennial"))
            .args(["watch", "--model", "./none.gguf"])
            .args(&args)
            .output()
            .expect("the program starts");
        let says = String::from_utf8_lossy(&output.stderr);
        assert!(
            says.contains(&format!("--features {feature}")),
            "{args:?}: {says}"
        );
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}
