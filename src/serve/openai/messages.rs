//! What does a view read of a conversation?
//!
//! A question alone is the text of the context as it is. Of a conversation all messages are, each with
//! who says it, the last question at the end. The view's own instruction stands as it was declared: what
//! clients send as `system` is part of the conversation, and of less weight.

use serde_json::Value;

use super::error::ApiError;

/// The most messages of a conversation.
const MAX_MESSAGES: usize = 1_000;

/// The text of a context that asks for the next message.
pub(super) fn text_of(messages: &Value) -> Result<String, ApiError> {
    let Some(messages) = messages.as_array() else {
        return Err(ApiError::invalid("messages", "`messages` is a list"));
    };
    if messages.len() > MAX_MESSAGES {
        let message = format!("the conversation has more than {MAX_MESSAGES} messages");
        return Err(ApiError::invalid("messages", message));
    }
    let mut said = Vec::new();
    for (number, message) in messages.iter().enumerate() {
        let at = format!("messages[{number}]");
        let (speaker, text) = message_of(message, &at)?;
        if !text.trim().is_empty() {
            said.push((speaker, text.trim().to_owned()));
        }
    }
    match &said[..] {
        [.., (Speaker::User, _)] => {}
        [] => {
            return Err(ApiError::invalid(
                "messages",
                "the conversation says nothing",
            ));
        }
        _ => {
            let message = "the last message is not of the role `user`: nothing is asked";
            return Err(ApiError::invalid("messages", message));
        }
    }
    if let [(_, question)] = &mut said[..] {
        return Ok(std::mem::take(question));
    }
    let said = said.iter();
    let said: Vec<String> = said
        .map(|(speaker, text)| format!("{}: {text}", speaker.word()))
        .collect();
    Ok(said.join("\n\n"))
}

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaker {
    System,
    User,
    Assistant,
}

impl Speaker {
    fn word(self) -> &'static str {
        match self {
            Self::System => "Instruction",
            Self::User => "User",
            Self::Assistant => "Assistant",
        }
    }
}

fn message_of(message: &Value, at: &str) -> Result<(Speaker, String), ApiError> {
    let role = message.get("role").and_then(Value::as_str);
    let speaker = match role.unwrap_or_default() {
        "system" | "developer" => Speaker::System,
        "user" => Speaker::User,
        "assistant" => Speaker::Assistant,
        other => {
            let parameter = format!("{at}.role");
            let message = format!(
                "messages are of the roles system, developer, user and assistant, not `{other}`: a view calls no tools"
            );
            return Err(ApiError::of_parameter(
                parameter,
                "unsupported_value",
                message,
            ));
        }
    };
    let parameter = format!("{at}.content");
    let text = match message.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts_of(parts, &parameter)?,
        // An assistant that refused, or called a tool, said nothing.
        None | Some(Value::Null) if speaker == Speaker::Assistant => String::new(),
        _ => {
            let message = "`content` is a text, or a list of parts";
            return Err(ApiError::invalid(parameter, message));
        }
    };
    Ok((speaker, text))
}

fn parts_of(parts: &[Value], parameter: &str) -> Result<String, ApiError> {
    let mut texts = Vec::new();
    for part in parts {
        let of = part.get("type").and_then(Value::as_str).unwrap_or_default();
        match (of, part.get("text").and_then(Value::as_str)) {
            ("text", Some(text)) => texts.push(text),
            ("refusal", _) => {}
            _ => {
                let message = format!("a view reads text, no part of the type `{of}`");
                return Err(ApiError::of_parameter(
                    parameter,
                    "unsupported_value",
                    message,
                ));
            }
        }
    }
    Ok(texts.join("\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_question_alone_is_the_context_as_it_is() {
        for content in [
            json!("  When do you open?\n"),
            json!([{"type": "text", "text": "When do you open?"}]),
        ] {
            let messages = json!([{"role": "user", "content": content}]);
            assert_eq!(text_of(&messages).expect("a text"), "When do you open?");
        }
    }

    #[test]
    fn of_a_conversation_it_is_told_who_says_what() {
        let messages = json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "When do you open?"},
            {"role": "assistant", "content": "At nine."},
            {"role": "assistant", "content": null},
            {"role": "user", "content": "And on Sundays?"},
        ]);
        let expected = "Instruction: Be brief.\n\nUser: When do you open?\n\nAssistant: At nine.\n\n\
                        User: And on Sundays?";
        assert_eq!(text_of(&messages).expect("a text"), expected);
    }

    #[test]
    fn what_is_no_conversation_is_refused_by_its_place() {
        let user = json!({"role": "user", "content": "?"});
        for (messages, place) in [
            (json!("When?"), "messages"),
            (json!([]), "messages"),
            (json!([{"role": "user", "content": " "}]), "messages"),
            (
                json!([user, {"role": "assistant", "content": "At nine."}]),
                "messages",
            ),
            (
                json!([{"role": "tool", "content": "x"}]),
                "messages[0].role",
            ),
            (json!([user, {"content": "x"}]), "messages[1].role"),
            (
                json!([{"role": "user", "content": 7}]),
                "messages[0].content",
            ),
            (json!([{"role": "user"}]), "messages[0].content"),
            (
                json!([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
                "messages[0].content",
            ),
        ] {
            let error = text_of(&messages).expect_err("refused").json();
            assert_eq!(error["error"]["param"], place, "{messages}");
        }
    }
}
