//! Makes untrusted text safe for a terminal or a log. It does for the engine's log lines and errors
//! what `ardiq.printable` does for those of the client.
//!
//! Names, ids and error texts come from Redis, and any Redis user can put terminal escapes and line
//! breaks into them.

use std::borrow::Cow;
use std::fmt::Write;

/// Replace each character that moves the cursor, or hides or reorders text, by an escape such as
/// `\x1b` or `\u202e`.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        // The standard library would also escape quotes and backslashes.
        if matches!(character, '"' | '\'' | '\\') || character.escape_debug().len() == 1 {
            shown.push(character);
        } else {
            escape(&mut shown, u32::from(character));
        }
    }
    Cow::Owned(shown)
}

/// Decode UTF-8. Invalid bytes become escapes.
pub fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| {
        let mut shown = String::new();
        for chunk in error.as_bytes().utf8_chunks() {
            shown.push_str(chunk.valid());
            for byte in chunk.invalid() {
                escape(&mut shown, u32::from(*byte));
            }
        }
        shown
    })
}

fn escape(shown: &mut String, code: u32) {
    // Writing to a string cannot fail.
    let _ = match code {
        0x09 => shown.write_str("\\t"),
        0x0a => shown.write_str("\\n"),
        0x0d => shown.write_str("\\r"),
        _ if code <= 0xff => write!(shown, "\\x{code:02x}"),
        _ if code <= 0xffff => write!(shown, "\\u{code:04x}"),
        _ => write!(shown, "\\U{code:08x}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_control_a_terminal_are_escaped_as_in_python() {
        let cases = [
            ("shop.tasks:welcome \"it's\" \\n", "shop.tasks:welcome \"it's\" \\n"),
            ("größe 名前", "größe 名前"),
            ("\x1b[31m", "\\x1b[31m"),
            ("a\r\nb\tc", "a\\r\\nb\\tc"),
            ("\u{9b}31m\u{7f}\u{0}", "\\x9b31m\\x7f\\x00"),
            ("\u{202e}txt.exe\u{2066}", "\\u202etxt.exe\\u2066"),
            ("\u{2028}\u{2029}\u{feff}\u{200b}", "\\u2028\\u2029\\ufeff\\u200b"),
            ("\u{e0001}", "\\U000e0001"),
        ];
        for (text, shown) in cases {
            assert_eq!(printable(text), shown, "{text:?}");
        }
    }

    #[test]
    fn bytes_that_are_not_text_become_escapes() {
        assert_eq!(text_of(b"default".to_vec()), "default");
        assert_eq!(text_of(b"a\xff\xc3(z".to_vec()), "a\\xff\\xc3(z");
    }
}
