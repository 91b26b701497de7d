use super::*;

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::compile(source, false, "<s>".into(), "</s>".into(), false).unwrap()
}

fn conversation() -> Vec<Message> {
    vec![
        Message::new(Role::System, format!("Be brief. {SLOT}")),
        Message::new(Role::User, format!("{SLOT}{SLOT}")),
    ]
}

#[test]
fn slots_are_cut_in_order() {
    let chatml = ChatTemplate::compile(CHATML, true, String::new(), String::new(), false).unwrap();
    assert_eq!(
        chatml.cut(&conversation()).unwrap(),
        [
            "<|im_start|>system\nBe brief. ",
            "<|im_end|>\n<|im_start|>user\n",
            "",
            "<|im_end|>\n<|im_start|>assistant\n",
        ]
    );
}

#[test]
fn trimming_templates_leave_slots_whole() {
    let trims = template(
        "{%- for m in messages %}[{{ m['role'].upper() }}]{{ m.content | trim }}{{ eos_token }}\n\
         {%- endfor %}",
    );
    assert_eq!(
        trims.cut(&conversation()).unwrap(),
        ["[SYSTEM]Be brief. ", "</s>[USER]", "", "</s>"]
    );
}

#[test]
fn a_template_that_drops_a_message_is_an_error() {
    let drops = template("{{ messages[-1].content }}");
    let says = drops.cut(&conversation()).unwrap_err().to_string();
    assert!(says.contains("3 slots") && says.contains("2"), "{says}");
}

#[test]
fn a_template_may_refuse_and_its_words_are_passed_on() {
    let refuses = template(
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}",
    );
    let says = refuses
        .render(&conversation(), true)
        .unwrap_err()
        .to_string();
    assert!(says.contains("System role not supported"), "{says}");
}

#[test]
fn a_broken_template_says_where() {
    let error = ChatTemplate::compile("a\n{% if %}", false, String::new(), String::new(), false);
    let says = error.unwrap_err().to_string();
    assert!(says.contains("chat_template:2"), "{says}");
}

#[test]
fn the_bos_of_models_that_want_one_stands_once() {
    let source = |written| format!("{}{{{{ messages[0].content }}}}", written);
    let compile = |source: &str| {
        ChatTemplate::compile(source, false, "<s>".into(), String::new(), true).unwrap()
    };
    let message = [Message::new(Role::User, "x")];
    assert_eq!(
        compile(&source("")).render(&message, false).unwrap(),
        "<s>x"
    );
    assert_eq!(
        compile(&source("{{ bos_token }}"))
            .render(&message, false)
            .unwrap(),
        "<s>x"
    );
}

#[test]
fn python_is_spoken() {
    let speaks = template(
        "{{ messages[0].content.strip().split(' ')[0] }}|{{ {'a': [1, '<é>']} | tojson }}|\
         {{ strftime_now('%d %b %Y') }}",
    );
    let message = [Message::new(Role::User, " one two ")];
    assert_eq!(
        speaks.render(&message, false).unwrap(),
        r#"one|{"a": [1, "<é>"]}|26 Jul 2024"#
    );
}

#[test]
fn a_template_that_does_not_end_is_stopped() {
    let long = template(
        "{% for a in range(10000) %}{% for b in range(10000) %}{{ b }}{% endfor %}{% endfor %}",
    );
    assert!(long.render(&[], false).is_err());
}
