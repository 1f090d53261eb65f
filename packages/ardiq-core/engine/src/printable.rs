//! Makes untrusted text safe for a terminal or a log: like the client's `ardiq.printable`, for the engine's own lines and
//! errors.
//!
//! Names, ids and error texts come from Redis, and any Redis user can put terminal escapes and line breaks into them.

use std::borrow::Cow;
use std::fmt::Write;

/// `text` with an escape (`\x1b`, `\u202e`) for each character that moves the cursor, hides or reorders what is shown.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        // The standard library knows what is printable, but would escape quotes and backslashes too.
        if matches!(character, '"' | '\'' | '\\') || character.escape_debug().len() == 1 {
            shown.push(character);
        } else {
            escape(&mut shown, u32::from(character));
        }
    }
    Cow::Owned(shown)
}

/// Bytes that should be text: as they are when they are UTF-8, with escapes for those that are not.
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
    fn what_a_terminal_would_act_upon_is_escaped_as_python_would() {
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
    fn bytes_that_are_no_text_are_shown_all_the_same() {
        assert_eq!(text_of(b"default".to_vec()), "default");
        assert_eq!(text_of(b"a\xff\xc3(z".to_vec()), "a\\xff\\xc3(z");
    }
}
