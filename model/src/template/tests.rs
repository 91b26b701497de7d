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
fn a_template_without_a_system_gets_the_instruction_in_the_users_turn() {
    const TURNS: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}\n{% endfor %}";
    let frame = |source: &str| template(source).frame("Be brief.");
    assert_eq!(
        frame(TURNS).unwrap(),
        ["<system>Be brief.\n<user>", "\n"].map(String::from)
    );
    let folded = ["<user>Be brief.\n\n", "\n"].map(String::from);
    // As Gemma's and Mistral's first.
    let refuses = format!(
        "{{% if messages[0].role == 'system' %}}{{{{ raise_exception('no system') }}}}{{% endif %}}{TURNS}"
    );
    assert_eq!(frame(&refuses).unwrap(), folded);
    let drops = TURNS.replace("in messages", "in messages if m.role != 'system'");
    assert_eq!(frame(&drops).unwrap(), folded);
    // Whatever it is given, it refuses.
    let says = frame("{{ raise_exception('no user') }}")
        .unwrap_err()
        .to_string();
    assert!(says.contains("no user"), "{says}");
}

#[test]
fn the_next_turn_begins_behind_the_models_words() {
    let chatml = ChatTemplate::compile(CHATML, true, String::new(), String::new(), false).unwrap();
    let between = "<|im_end|>\n<|im_start|>user\n";
    assert_eq!(chatml.turn("Be brief.").as_deref(), Some(between));
    const TURNS: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}\n{% endfor %}\
        {% if add_generation_prompt %}<assistant>{% endif %}";
    let turn = |source: &str| template(source).turn("Be brief.");
    assert_eq!(turn(TURNS).as_deref(), Some("\n<user>"));
    // Without a system the instruction is the user's.
    let drops = TURNS.replace("in messages", "in messages if m.role != 'system'");
    assert_eq!(turn(&drops).as_deref(), Some("\n<user>"));
    // None that is asked once only, or that begins otherwise where more was said.
    let asks_once = format!(
        "{{% if messages | length > 2 %}}{{{{ raise_exception('once') }}}}{{% endif %}}{TURNS}"
    );
    assert_eq!(turn(&asks_once), None);
    let otherwise = format!("{{% if messages | length > 2 %}}more{{% endif %}}{TURNS}");
    assert_eq!(turn(&otherwise), None);
    // One whose model ends its words as its user does has no turns.
    let alike = "{% for m in messages %}{{ m.content }}|{% endfor %}";
    assert_eq!(turn(alike), None);
}

#[test]
fn marks_that_are_words_are_told_from_tokens() {
    let tokenizer = crate::tokenizer::continuing_tests::sentence_piece("prepend", &[]);
    let of = |source: &str| {
        let template = template(source);
        (
            template.markers(&tokenizer),
            template.plain_markers(&tokenizer),
        )
    };
    let none: Vec<String> = Vec::new();
    // Made of parts: only what is rendered shows the token.
    let tokens = "{% for m in messages %}{{ '<|' + m.role + '|>' if m.role == 'user' else '<s>' }}\
                  {{ m.content }}</s>{% endfor %}<tag>";
    assert_eq!(
        of(tokens),
        (
            ["</s>", "<s>", "<tag>", "<|user|>"]
                .map(String::from)
                .to_vec(),
            none.clone()
        )
    );
    let llama2 = "{% for m in messages %}{% if m.role == 'user' %}<s>[INST] {{ m.content }} [/INST]\
                  {% else %} {{ m.content }} </s>{% endif %}{% endfor %}";
    assert_eq!(of(llama2).1, ["[INST]", "[/INST]"]);
    let zephyr = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}\
                  {% if add_generation_prompt %}<|assistant|>\n{% endif %}";
    assert_eq!(of(zephyr).1, ["<|system|>", "<|assistant|>"]);
    let alpaca = "{% for m in messages %}### {{ m.role }}:\n{{ m.content }}\n{% endfor %}";
    assert_eq!(of(alpaca), (none, vec!["### user:".to_owned()]));
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
