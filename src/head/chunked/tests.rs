//! Bodies that are right, bodies that are not, and every way to cut them.

use proptest::prelude::*;

use super::*;

fn verdict(body: &[u8]) -> Result<Option<usize>, ChunkError> {
    let mut check = ChunkedCheck::new();
    let consumed = check.feed(body)?;
    Ok(check.is_done().then_some(consumed))
}

#[test]
fn whole_bodies_are_measured() {
    let long_extension = format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(255));
    let bodies: [(&str, u64); 11] = [
        ("0\r\n\r\n", 0),
        ("5\r\nhello\r\n0\r\n\r\n", 5),
        ("a\r\n0123456789\r\nA\r\n0123456789\r\n00\r\n\r\n", 20),
        ("0000000000000003\r\nabc\r\n0000000000000000\r\n\r\n", 3),
        ("2\r\n\r\n\r\n0\r\n\r\n", 2),
        ("3;name=value\r\nabc\r\n0;last\r\n\r\n", 3),
        ("3;a=\"b c\";d\r\nabc\r\n0\r\n\r\n", 3),
        ("0\r\nx-checksum: 1\r\n\r\n", 0),
        ("0\r\nx-checksum:\r\nx-other: a b\tc\r\n\r\n", 0),
        ("0\r\ntransfer-encoding-of-mine: 1\r\n\r\n", 0),
        (&long_extension, 1),
    ];
    for (body, data_bytes) in bodies {
        assert_eq!(verdict(body.as_bytes()), Ok(Some(body.len())), "{body:?}");
        let next = format!("{body}POST / HTTP/1.1\r\n");
        assert_eq!(verdict(next.as_bytes()), Ok(Some(body.len())), "{body:?}");
        let mut check = ChunkedCheck::new();
        for byte in body.as_bytes() {
            assert!(!check.is_done(), "{body:?}");
            assert_eq!(check.feed(&[*byte]), Ok(1), "{body:?}");
        }
        assert!(check.is_done(), "{body:?}");
        assert_eq!(check.data_bytes(), data_bytes, "{body:?}");
        assert_eq!(check.feed(b"more"), Ok(0), "{body:?}");
    }
}

#[test]
fn ambiguous_bodies_are_refused() {
    let bodies: [(&str, ChunkError); 47] = [
        ("\r\n", ChunkError::Size),
        ("\n", ChunkError::Size),
        (" 5\r\nhello", ChunkError::Size),
        ("5 \r\nhello", ChunkError::Size),
        ("5\t\r\nhello", ChunkError::Size),
        ("5 ;a\r\nhello", ChunkError::Size),
        ("+5\r\nhello", ChunkError::Size),
        ("-5\r\nhello", ChunkError::Size),
        ("0x5\r\nhello", ChunkError::Size),
        ("5h\r\nhello", ChunkError::Size),
        ("5.0\r\nhello", ChunkError::Size),
        ("5_0\r\nhello", ChunkError::Size),
        (";a\r\nhello", ChunkError::Size),
        ("5\0\r\nhello", ChunkError::Size),
        ("g\r\n", ChunkError::Size),
        ("00000000000000005\r\nhello", ChunkError::SizeTooLong),
        ("fffffffffffffffff\r\n", ChunkError::SizeTooLong),
        ("5\nhello", ChunkError::LineEnd),
        ("5\rhello", ChunkError::LineEnd),
        ("5\r\r\nhello", ChunkError::LineEnd),
        ("5\r\nhello0\r\n\r\n", ChunkError::LineEnd),
        ("5\r\nhelloworld", ChunkError::LineEnd),
        ("5\r\nhello\n0\r\n\r\n", ChunkError::LineEnd),
        ("5\r\nhello\r0\r\n\r\n", ChunkError::LineEnd),
        ("5\r\nhello\r\r\n0\r\n\r\n", ChunkError::LineEnd),
        ("5;a\nhello", ChunkError::LineEnd),
        ("5;a\rb\r\nhello", ChunkError::LineEnd),
        ("5;a=\"\n\"\r\nhello", ChunkError::LineEnd),
        ("5;a\0\r\nhello", ChunkError::Extension),
        ("5;a\u{7f}\r\nhello", ChunkError::Extension),
        ("5;é\r\nhello", ChunkError::Extension),
        ("0\n\n", ChunkError::LineEnd),
        ("0\r\n\n", ChunkError::LineEnd),
        ("0\r\n\r\r", ChunkError::LineEnd),
        ("0\r\n\rx", ChunkError::LineEnd),
        ("0\r\n name: x\r\n\r\n", ChunkError::Trailer),
        ("0\r\nname : x\r\n\r\n", ChunkError::Trailer),
        ("0\r\n: x\r\n\r\n", ChunkError::Trailer),
        ("0\r\nname\r\n\r\n", ChunkError::Trailer),
        ("0\r\nna_me: x\r\n\r\n", ChunkError::Trailer),
        ("0\r\nname: \0\r\n\r\n", ChunkError::Trailer),
        ("0\r\nname: x\n\r\n", ChunkError::LineEnd),
        ("0\r\nname: x\ry\r\n\r\n", ChunkError::LineEnd),
        ("0\r\nname: x\r\n folded\r\n\r\n", ChunkError::Trailer),
        ("0\r\nContent-Length: 5\r\n\r\n", ChunkError::TrailerForbidden),
        ("0\r\na: b\r\ntransfer-encoding: chunked\r\n\r\n", ChunkError::TrailerForbidden),
        ("0\r\nProxy-Authorization: x\r\n\r\n", ChunkError::TrailerForbidden),
    ];
    for (body, error) in bodies {
        assert_eq!(verdict(body.as_bytes()), Err(error), "{body:?}");
    }
}

#[test]
fn overhead_is_bounded() {
    let chunk = format!("1;{}\r\nx\r\n", "e".repeat(256));
    assert_eq!(verdict(chunk.as_bytes()), Err(ChunkError::ExtensionTooLong));
    let chunk = format!("1;{}\r\nx\r\n", "e".repeat(255));
    assert_eq!(verdict(chunk.repeat(32).as_bytes()), Ok(None));
    assert_eq!(verdict(chunk.repeat(33).as_bytes()), Err(ChunkError::ExtensionTooLong));

    let line = "name: 9 bytes...\r\n";
    let n_lines = 8 * 1024 / line.len();
    let body = format!("0\r\n{}\r\n", line.repeat(n_lines));
    assert_eq!(verdict(body.as_bytes()), Ok(Some(body.len())));
    let body = format!("0\r\n{}\r\n", line.repeat(n_lines + 1));
    assert_eq!(verdict(body.as_bytes()), Err(ChunkError::TrailersTooLong));
}

#[test]
fn longest_forbidden_name_fits() {
    let longest = FORBIDDEN.iter().map(|name| name.len()).max();
    assert!(longest < Some(NAME_KEPT), "{longest:?}");
    assert!(FORBIDDEN.iter().all(|name| name.iter().all(|&byte| NAME.has(byte))));
}

#[test]
fn labels_are_distinct() {
    let mut labels = ChunkError::ALL.map(ChunkError::reason).to_vec();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), ChunkError::ALL.len());
}

/// Where a body ends or what is wrong with it, and at which byte that was known.
fn fed_in_pieces(body: &[u8], cuts: &[usize]) -> (Result<usize, ChunkError>, bool, u64) {
    let mut check = ChunkedCheck::new();
    let mut consumed = 0;
    let mut rest = body;
    for cut in cuts.iter().copied().chain([usize::MAX]) {
        let (piece, after) = rest.split_at(cut.min(rest.len()));
        rest = after;
        match check.feed(piece) {
            Ok(bytes) => consumed += bytes,
            Err(error) => {
                assert_eq!(check.feed(b"0\r\n\r\n"), Err(error));
                return (Err(error), false, 0);
            }
        }
    }
    (Ok(consumed), check.is_done(), check.data_bytes())
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_verdict(body in body(), cuts in prop::collection::vec(0_usize..9, 0..60)) {
        prop_assert_eq!(fed_in_pieces(&body, &cuts), fed_in_pieces(&body, &[]));
    }

    #[test]
    fn chunks_of_any_size_pass(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..10),
        after: Vec<u8>,
    ) {
        let mut body = Vec::new();
        for chunk in &chunks {
            body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\n\r\n");
        let len = body.len();
        body.extend_from_slice(&after);
        prop_assert_eq!(verdict(&body), Ok(Some(len)));
    }

    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>) {
        let consumed = ChunkedCheck::new().feed(&bytes);
        prop_assert!(consumed.is_err() || consumed.is_ok_and(|consumed| consumed <= bytes.len()));
    }
}

/// Bytes that look like a chunked body and mostly are not quite.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => Just("5\r\nhello\r\n".to_owned()),
        2 => Just("5;ext=1\r\nhello\r\n".to_owned()),
        2 => Just("0\r\n\r\n".to_owned()),
        1 => Just("0\r\nname: value\r\n\r\n".to_owned()),
        1 => "[0-9a-f]{0,2}(\r\n|\n|;|\r| )",
        1 => "[ -~\r\n]{0,6}",
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat().into_bytes())
}
