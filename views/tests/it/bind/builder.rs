//! Is what the builder makes what SQL says?

use perennial_rows::Value;
use perennial_views::query::builder::*;

use super::{Shop, sql};

fn digest(rows: Rows) -> [u8; 32] {
    let text = rows.to_sql();
    let query = rows
        .bind(&Shop)
        .unwrap_or_else(|errors| panic!("{text}: {errors}"));
    assert_eq!(sql(&text).unwrap().digest(), query.digest(), "{text}");
    query.digest()
}

#[test]
fn the_builder_and_sql_make_the_same_query() {
    let cases = [
        (
            scan("orders")
                .filter(col("price").gt(lit(3.0)))
                .filter(col("region").like("n%").or(!col("region").is_null()))
                .project([col("id").into(), (col("price") * lit(2i64)).named("twice")]),
            "SELECT id, price * 2 AS twice FROM orders
             WHERE price > 3.0 AND (region LIKE 'n%' OR NOT region IS NULL)",
        ),
        (
            scan("orders")
                .alias("o")
                .join(scan("docs").alias("d"), col("o.doc").eq(col("d.key")))
                .group_by([col("d.title")])
                .having(count_all().gt(lit(1i64)))
                .project([col("d.title").into(), sum(col("o.price")).named("total")])
                .top([col("total").desc(), col("title").asc()], 3, 1),
            "SELECT d.title, sum(o.price) AS total FROM orders o JOIN docs d ON o.doc = d.key
             GROUP BY d.title HAVING count(*) > 1 ORDER BY total DESC, title LIMIT 3 OFFSET 1",
        ),
        (
            scan("orders")
                .project([col("region").named("x")])
                .union(scan("docs").project([col("title").named("x")]))
                .filter(col("x").ne(lit("a"))),
            "SELECT * FROM (SELECT region AS x FROM orders UNION SELECT title FROM docs)
             WHERE x <> 'a'",
        ),
        (
            scan("orders")
                .left_join(scan("docs"), col("doc").eq(col("key")))
                .project([
                    col("id").into(),
                    call("coalesce", [col("title"), lit("")]).named("t"),
                ])
                .distinct(),
            "SELECT DISTINCT id, coalesce(title, '') AS t FROM orders LEFT JOIN docs ON doc = key",
        ),
        (
            scan("orders")
                .filter(sem_filter_within(
                    "Is {doc} it?",
                    Within::default().recall(0.9).precision(0.8),
                ))
                .project([
                    col("id").into(),
                    sem_decider("Is {doc} it?", Within::default().recall(0.9).precision(0.8))
                        .named("who"),
                    sem_filter_within("Or {doc}?", Within::default().precision(0.5).sample(900))
                        .named("or"),
                ]),
            "SELECT id, sem_decider('Is {doc} it?', precision => 0.8, recall => 0.9) AS who,
                    sem_filter('Or {doc}?', sample => 900, precision => 0.5) AS \"or\" FROM orders
             WHERE sem_filter('Is {doc} it?', recall => 0.9, precision => 0.8, sample => 600)",
        ),
        (
            scan("orders").project([
                sem_dedup(col("doc"), 0.9).named("d"),
                sem_dedup_checked(col("doc"), "Is each {doc} it?", 1.0).named("e"),
                sem_group("Name {doc}", 0.5, 9).named("g"),
            ]),
            "SELECT sem_dedup(doc, threshold => 0.9) AS d,
                    sem_dedup(doc, 'Is each {doc} it?', threshold => 1) AS e,
                    sem_group('Name {doc}', max_tokens => 9, threshold => 0.5) AS g FROM orders",
        ),
        (
            scan("docs").filter(col("updated_at").lt(lit(Value::Timestamp(5)))),
            "SELECT * FROM docs WHERE updated_at < '1970-01-01T00:00:00.005Z'",
        ),
    ];
    for (rows, text) in cases {
        assert_eq!(digest(rows), sql(text).unwrap().digest(), "{text}");
    }
}

#[test]
fn the_builder_is_checked_as_sql_is() {
    let errors = scan("orders")
        .filter(col("prise").gt(lit(3i64)))
        .bind(&Shop)
        .unwrap_err();
    let message = "there is no column `prise` in `orders`; did you mean `price`?";
    assert_eq!(errors.to_string(), message);
}
