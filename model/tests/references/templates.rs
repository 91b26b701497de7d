//! Prompts as the checkpoints' own templates frame them.

use perennial_model::template::{Message, Role, SLOT};

use crate::checkpoints::{LARGE, SMALL, model};

#[test]
fn real_templates_keep_their_slots() {
    for name in [SMALL, LARGE] {
        let template = model(name).template();
        assert!(!template.is_fallback(), "{name} has a template");
        let parts = template
            .cut(&[
                Message::new(Role::System, SLOT),
                Message::new(Role::User, SLOT),
            ])
            .unwrap();
        assert_eq!(
            parts,
            [
                "<|im_start|>system\n",
                "<|im_end|>\n<|im_start|>user\n",
                "<|im_end|>\n<|im_start|>assistant\n"
            ],
            "{name}"
        );
    }
}

#[test]
fn a_template_speaks_for_a_system_that_is_silent() {
    let rendered = model(SMALL)
        .template()
        .render(&[Message::new(Role::User, "Hi")], true);
    assert_eq!(
        rendered.unwrap(),
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging \
         Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
}
