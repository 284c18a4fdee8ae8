// SPDX-License-Identifier: Apache-2.0
//! Lists come in pages. Each says where the next is, in one of two ways.
//!
//! Only the question is taken from there, never the address: behind a proxy that ends TLS, services often give one that
//! is reached by nobody, or without TLS.

use serde_json::Value;

use super::call::Call;

/// A million things, by the usual size of a page. Whoever has more is asked something else.
pub(super) const MOST: usize = 1000;

/// The call for the next page; `None` if this was the last.
pub(super) fn next(call: &Call, body: &Value, name: &str) -> Option<Call> {
    let links = body.get(format!("{name}_links")).and_then(Value::as_array);
    let is_next = |link: &&Value| link.get("rel").and_then(Value::as_str) == Some("next");
    let linked = links.and_then(|links| links.iter().find(is_next)).and_then(|link| link.get("href"));
    // Images have only this.
    let address = linked.or_else(|| body.get("next"))?.as_str()?;
    let (_, query) = address.split_once('?')?;
    let query = query.split('&').filter(|part| !part.is_empty()).map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decoded(name), decoded(value))
    });
    Some(Call { query: query.collect(), ..call.clone() })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        match (byte, code.and_then(|code| u8::from_str_radix(code, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(byte),
        }
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::next;
    use crate::openstack::call::Call;
    use crate::openstack::service::Service;

    #[test]
    fn takes_the_question_and_leaves_the_address() {
        let call = Call::get(Service::Compute, "/servers/detail");
        let links = json!([{"rel": "previous", "href": "x?a=b"}, {"rel": "next", "href": "http://10.0.0.1/v2.1/servers?limit=2&marker=a%3Ab+c"}]);
        let following = next(&call, &json!({"servers": [], "servers_links": links}), "servers").expect("a page");
        assert_eq!(following.target(), "/servers/detail?limit=2&marker=a%3Ab%20c");
        let image = json!({"images": [], "next": "/v2/images?marker=m", "first": "/v2/images"});
        assert_eq!(next(&call, &image, "images").expect("a page").target(), "/servers/detail?marker=m");
        assert!(next(&call, &json!({"servers": []}), "servers").is_none());
        let previous = json!({"servers_links": [{"rel": "previous", "href": "x?a=b"}]});
        assert!(next(&call, &previous, "servers").is_none());
    }
}
