//! Requests as clients of other servers make them: their numbers, fields, paths and bodies.

use std::io::Write as _;
use std::net::TcpStream;

use crate::common::{TestServer, options, rest_of};
use lookahead_server::ServerOptions;
use serde_json::{Value, json};

fn ask(server: &TestServer, more: &Value) -> crate::common::Reply {
    let mut body =
        json!({ "messages": [{ "role": "user", "content": "Hi" }], "temperature": 0, "max_tokens": 4 });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.post("/v1/chat/completions", &body)
}

#[test]
fn numbers_may_be_written_in_any_way_that_json_has() {
    let server = TestServer::start(options());
    let tokens = |more: Value| ask(&server, &more).json()["usage"]["completion_tokens"].clone();
    assert_eq!(tokens(json!({ "max_tokens": 5.0, "ignore_eos": true })), 5);
    assert_eq!(tokens(json!({ "max_tokens": 3, "n_predict": 3, "ignore_eos": true })), 3);
    for fields in [
        json!({ "top_k": 40.0, "n": 1.0, "logprobs": true, "top_logprobs": 2.0 }),
        json!({ "max_tokens": 1e20, "stop": "e" }),
        json!({ "top_k": 1e20, "repeat_last_n": -1.0 }),
        json!({ "seed": 9_223_372_036_854_775_808_u64 }),
        json!({ "seed": 1e20 }),
        json!({ "seed": -7 }),
        json!({ "repeat_penalty": 1.1, "repetition_penalty": 1.1 }),
    ] {
        let reply = ask(&server, &fields);
        assert_eq!(reply.status, 200, "{fields}: {}", reply.text);
    }
    for (fields, param, message) in [
        (json!({ "max_tokens": 5.5 }), "max_tokens", "5.5 is not a whole number"),
        (json!({ "max_tokens": "5" }), "max_tokens", "a whole number"),
        (json!({ "n": -1 }), "n", "-1 is negative"),
        (
            json!({ "repetition_penalty": 1.1, "repeat_penalty": 1.2 }),
            "repeat_penalty",
            "repetition_penalty is 1.1 and repeat_penalty is 1.2",
        ),
        (json!({ "max_tokens": 5, "n_predict": 6 }), "n_predict", "max_tokens is 5 and n_predict is 6"),
    ] {
        let reply = ask(&server, &fields);
        let error = &reply.json()["error"];
        assert_eq!((reply.status, &error["param"]), (400, &json!(param)), "{fields}: {}", reply.text);
        assert!(error["message"].as_str().unwrap().contains(message), "{}", reply.text);
    }
}

#[test]
fn a_nucleus_of_nothing_is_the_likeliest_token() {
    let server = TestServer::start(options());
    let text = |more: Value| ask(&server, &more).json()["choices"][0]["message"]["content"].clone();
    assert_eq!(
        text(json!({ "temperature": 2, "top_p": 0, "seed": 3, "max_tokens": 20 })),
        text(json!({ "max_tokens": 20 }))
    );
}

#[test]
fn what_other_servers_ignore_is_passed_over_and_named_unless_the_server_is_strict() {
    let fields =
        json!({ "n_ctx": 4096, "mode": "chat", "user": "me", "typical_p": 1, "sampler_order": [6, 0] });
    let server = TestServer::start(options());
    let header = |fields: &Value| {
        let reply = ask(&server, fields);
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.headers.get("x-lookahead-ignored").map(|names| names.to_str().unwrap().to_owned())
    };
    assert_eq!(header(&fields).as_deref(), Some("mode, n_ctx, sampler_order"));
    assert_eq!(header(&json!({ "user": "me", "typical_p": 1 })), None);
    let mut streamed = fields.clone();
    streamed["stream"] = true.into();
    assert_eq!(header(&streamed).as_deref(), Some("mode, n_ctx, sampler_order"));
    let tokens = server.post("/tokenize", &json!({ "content": "Hi", "mode": "chat" }));
    assert_eq!(tokens.headers["x-lookahead-ignored"], "mode");

    let strict = TestServer::start(ServerOptions { strict_fields: true, ..options() });
    let refused = ask(&strict, &fields);
    assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("mode")));
    assert_eq!(ask(&strict, &json!({ "user": "me" })).status, 200);
    assert_eq!(strict.post("/tokenize", &json!({ "content": "Hi", "mode": "chat" })).status, 400);
}

#[test]
fn paths_with_slashes_too_many_or_without_a_version_are_understood_and_guarded_as_all() {
    let server = TestServer::start(options());
    for path in ["/v1/models/", "//v1/models", "/models", "/models/", "/v1/health", "/version", "/docs/"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    assert_eq!(head(&server, "/"), 200, "agents look first");
    let body = json!({ "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 2 });
    for path in ["/v1/chat/completions/", "//v1//chat/completions", "/chat/completions"] {
        assert_eq!(server.post(path, &body).status, 200, "{path}");
        let page = [("Origin", "http://evil.example"), ("Content-Type", "application/json")];
        assert_eq!(server.post_with(path, &page, &body.to_string()).status, 403, "{path}");
        assert_eq!(
            server.post_with(path, &[("Content-Type", "text/plain")], &body.to_string()).status,
            415,
            "{path}: text"
        );
    }
    let text = json!({ "prompt": "Hi", "max_tokens": 2 });
    assert_eq!(server.post("/completions", &text).json()["object"], "text_completion");
    assert_eq!(server.get("/v1//nothing/").status, 404);

    let keys = vec![lookahead_server::ApiKey::parse("secret").unwrap()];
    let server = TestServer::start(ServerOptions { keys, ..options() });
    for path in ["//v1/models", "/v1/models/", "/models"] {
        assert_eq!(server.get(path).status, 401, "{path}");
    }
}

/// The status of an answer without its body.
fn head(server: &TestServer, path: &str) -> u16 {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let request = format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    rest_of(stream).split(' ').nth(1).unwrap().parse().unwrap()
}

/// The gzip form of `bytes`: blocks of up to 65,535 of them as they are (RFC 1951, section 3.2.4, in a member of RFC 1952).
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut member = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let blocks: Vec<&[u8]> = bytes.chunks(65_535).collect();
    for (index, block) in blocks.iter().enumerate() {
        let length = block.len() as u16;
        member.push(u8::from(index + 1 == blocks.len()));
        member.extend(length.to_le_bytes());
        member.extend((!length).to_le_bytes());
        member.extend(*block);
    }
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1)))
    });
    member.extend((!crc).to_le_bytes());
    member.extend((bytes.len() as u32).to_le_bytes());
    member
}

/// Posts a chat whose body is said to be encoded.
fn post_encoded(server: &TestServer, encoding: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Encoding: {encoding}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let text = rest_of(stream);
    (text.split(' ').nth(1).unwrap().parse().unwrap(), text)
}

#[test]
fn a_body_may_be_squeezed_and_counts_as_what_comes_out() {
    let server = TestServer::start(ServerOptions { max_body_bytes: 4096, ..options() });
    let body = json!({ "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 2 }).to_string();
    let (status, text) = post_encoded(&server, "gzip", &gzip(body.as_bytes()));
    assert_eq!(status, 200, "{text}");
    let marked = format!("\u{feff}{body}");
    assert_eq!(post_encoded(&server, "gzip", &gzip(marked.as_bytes())).0, 200);
    assert_eq!(post_encoded(&server, "identity", marked.as_bytes()).0, 200);
    assert_eq!(post_encoded(&server, "gzip", body.as_bytes()).0, 400, "no gzip");
    assert_eq!(post_encoded(&server, "gzip", &gzip(body.as_bytes())[..40]).0, 400, "cut off");
    assert_eq!(post_encoded(&server, "zstd", body.as_bytes()).0, 415);
    assert_eq!(post_encoded(&server, "gzip, gzip", &gzip(&gzip(body.as_bytes()))).0, 415);

    // A megabyte of blanks in some six kilobytes: one block of fixed codes, a blank and then copies of it.
    let (status, text) = post_encoded(&server, "gzip", &bomb());
    assert_eq!(status, 413, "{text}");
    assert!(text.contains("4096 bytes of --max-body"), "{text}");
}

/// A gzip member of a blank and 4,096 copies of 258 blanks, 13 bits each. Its checksum is wrong, which nobody gets to.
fn bomb() -> Vec<u8> {
    let (mut bytes, mut bits, mut used) = (vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255], 0u32, 0);
    let mut put = |value: u32, count: u32, is_code: bool| {
        // Codes begin with their highest bit, other numbers with their lowest.
        let value = if is_code { value.reverse_bits() >> (32 - count) } else { value };
        bits |= value << used;
        used += count;
        while used >= 8 {
            bytes.push(bits as u8);
            bits >>= 8;
            used -= 8;
        }
    };
    put(1, 1, false); // the last block
    put(1, 2, false); // fixed codes
    put(0x30 + u32::from(b' '), 8, true);
    for _ in 0..4096 {
        put(0b1100_0101, 8, true); // 285: a copy of 258 bytes
        put(0, 5, true); // from one byte back
    }
    put(0, 7, true); // the end
    put(0, 7, false);
    bytes.extend([0; 8]);
    bytes
}
