//! Frames of an AWS event stream: bytes to messages, wherever the bytes are split.
//!
//! ```text
//! length of all | length of headers | CRC-32 of these | headers | payload | CRC-32 of all before
//! ```
//!
//! All lengths and sums are four bytes, the first byte first. A frame whose sums are wrong ends the
//! stream: nothing after it can be trusted.

/// The most that one frame may have.
const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;
const PRELUDE_BYTES: usize = 12;
const SUM_BYTES: usize = 4;

/// What one frame says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Event {
        kind: &'a str,
        payload: &'a [u8],
    },
    /// The provider reports an error; nothing follows.
    Exception {
        kind: &'a str,
        /// Beside the payload, in errors that no service has made.
        message: &'a str,
        payload: &'a [u8],
    },
    /// What came is no frame, or one that was damaged.
    Broken,
}

/// An incremental decoder of one stream.
#[derive(Debug, Default)]
pub(super) struct FrameDecoder {
    /// The frame under way.
    held: Vec<u8>,
    is_broken: bool,
}

#[derive(Debug, Default)]
struct Headers<'a> {
    message_type: &'a str,
    kind: &'a str,
    message: &'a str,
}

impl FrameDecoder {
    pub(super) fn push(&mut self, chunk: &[u8], mut on_frame: impl FnMut(Frame<'_>)) {
        if self.is_broken {
            return;
        }
        self.held.extend_from_slice(chunk);
        let mut at = 0;
        loop {
            let rest = self.held.get(at..).unwrap_or_default();
            match frame_bytes(rest) {
                Ok(None) => break,
                Ok(Some(bytes)) => {
                    let frame = rest.get(..bytes).and_then(read);
                    self.is_broken = frame.is_none();
                    on_frame(frame.unwrap_or(Frame::Broken));
                    at += bytes;
                }
                Err(NoFrame) => {
                    self.is_broken = true;
                    on_frame(Frame::Broken);
                }
            }
            if self.is_broken {
                self.held.clear();
                return;
            }
        }
        self.held.drain(..at);
    }

    /// Whether a frame has begun and its end has not come.
    pub(super) fn is_cut(&self) -> bool {
        !self.held.is_empty()
    }
}

struct NoFrame;

/// The length of the frame at the beginning of `bytes`, once all of it is there.
fn frame_bytes(bytes: &[u8]) -> Result<Option<usize>, NoFrame> {
    let Some(prelude) = bytes.get(..PRELUDE_BYTES) else { return Ok(None) };
    let (lengths, sum) = prelude.split_at(PRELUDE_BYTES - SUM_BYTES);
    let total = number(lengths, 0).ok_or(NoFrame)? as usize;
    let headers = number(lengths, 4).ok_or(NoFrame)? as usize;
    let is_sound = Some(crc32fast::hash(lengths)) == number(sum, 0);
    if !is_sound || FRAME_BYTES_MAX < total || total < PRELUDE_BYTES + headers + SUM_BYTES {
        return Err(NoFrame);
    }
    Ok((total <= bytes.len()).then_some(total))
}

/// A whole frame; `None` for one that was damaged.
fn read(frame: &[u8]) -> Option<Frame<'_>> {
    let (summed, sum) = frame.split_at_checked(frame.len().checked_sub(SUM_BYTES)?)?;
    if Some(crc32fast::hash(summed)) != number(sum, 0) {
        return None;
    }
    let headers_bytes = number(summed, 4)? as usize;
    let (headers, payload) = summed.get(PRELUDE_BYTES..)?.split_at_checked(headers_bytes)?;
    let headers = Headers::read(headers)?;
    Some(match headers.message_type {
        "event" | "" => Frame::Event { kind: headers.kind, payload },
        _ => Frame::Exception { kind: headers.kind, message: headers.message, payload },
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

impl<'a> Headers<'a> {
    fn read(mut bytes: &'a [u8]) -> Option<Self> {
        let mut headers = Self::default();
        while !bytes.is_empty() {
            let name_bytes = usize::from(take(&mut bytes, 1)?.first().copied()?);
            let name = take(&mut bytes, name_bytes)?;
            let kind = take(&mut bytes, 1)?.first().copied()?;
            let value_bytes = match kind {
                0 | 1 => 0,
                2 => 1,
                3 => 2,
                4 => 4,
                5 | 8 => 8,
                6 | 7 => {
                    let length = take(&mut bytes, 2)?;
                    usize::from(u16::from_be_bytes(length.try_into().ok()?))
                }
                9 => 16,
                _ => return None,
            };
            let value = take(&mut bytes, value_bytes)?;
            let text = if kind == 7 { std::str::from_utf8(value).ok()? } else { "" };
            match name {
                b":message-type" => headers.message_type = text,
                b":event-type" | b":exception-type" | b":error-code" => headers.kind = text,
                b":error-message" => headers.message = text,
                _ => {}
            }
        }
        Some(headers)
    }
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(n)?;
    *bytes = rest;
    Some(taken)
}

/// Frames as AWS makes them.
#[cfg(test)]
pub(super) mod write {
    pub(in crate::translate) fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
        let mut head = Vec::new();
        for (name, value) in headers {
            head.push(u8::try_from(name.len()).unwrap());
            head.extend_from_slice(name.as_bytes());
            head.push(7);
            head.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
            head.extend_from_slice(value.as_bytes());
        }
        let total = u32::try_from(16 + head.len() + payload.len()).unwrap();
        let mut frame = total.to_be_bytes().to_vec();
        frame.extend_from_slice(&u32::try_from(head.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
        frame.extend_from_slice(&head);
        frame.extend_from_slice(payload);
        frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
        frame
    }

    pub(in crate::translate) fn event(kind: &str, payload: &str) -> Vec<u8> {
        let headers = [
            (":event-type", kind),
            (":content-type", "application/json"),
            (":message-type", "event"),
        ];
        frame(&headers, payload.as_bytes())
    }

    pub(in crate::translate) fn exception(kind: &str, payload: &str) -> Vec<u8> {
        let headers = [(":exception-type", kind), (":message-type", "exception")];
        frame(&headers, payload.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(parts: &[&[u8]]) -> (Vec<String>, bool) {
        let mut decoder = FrameDecoder::default();
        let mut frames = Vec::new();
        for part in parts {
            decoder.push(part, |frame| {
                frames.push(match frame {
                    Frame::Event { kind, payload } => {
                        format!("{kind} {}", String::from_utf8_lossy(payload))
                    }
                    Frame::Exception { kind, message, payload } => {
                        format!("! {kind} {message}{}", String::from_utf8_lossy(payload))
                    }
                    Frame::Broken => "broken".to_owned(),
                });
            });
        }
        (frames, decoder.is_cut())
    }

    /// The payload `{'foo':'bar'}` with one header, as the test suite of AWS has it.
    #[test]
    fn frame_of_another_maker_is_read() {
        let frame = [
            0, 0, 0, 61, 0, 0, 0, 32, 7, 253, 131, 150, 12, b'c', b'o', b'n', b't', b'e', b'n',
            b't', b'-', b't', b'y', b'p', b'e', 7, 0, 16, b'a', b'p', b'p', b'l', b'i', b'c', b'a',
            b't', b'i', b'o', b'n', b'/', b'j', b's', b'o', b'n', b'{', b'\'', b'f', b'o', b'o',
            b'\'', b':', b'\'', b'b', b'a', b'r', b'\'', b'}', 141, 156, 8, 177,
        ];
        assert_eq!(decoded(&[&frame]), (vec![" {'foo':'bar'}".to_owned()], false));
    }

    #[test]
    fn errors_are_told_from_events() {
        let exception = write::exception("throttlingException", r#"{"message":"slow"}"#);
        let error = write::frame(
            &[(":message-type", "error"), (":error-code", "500"), (":error-message", "no")],
            b"",
        );
        let expected = [r#"! throttlingException {"message":"slow"}"#, "! 500 no"];
        assert_eq!(decoded(&[&exception, &error]).0, expected);
    }

    fn any_frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let frame = ("[a-z]{1,9}", prop::collection::vec(any::<u8>(), 0..200));
        let frame = frame.prop_map(|(kind, payload)| {
            write::frame(&[(":message-type", "event"), (":event-type", &kind)], &payload)
        });
        prop::collection::vec(frame, 1..6)
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames(frames in any_frames(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20)) {
            let bytes = frames.concat();
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let parts: Vec<&[u8]> = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let whole = decoded(&[&bytes]);
            prop_assert_eq!(whole.0.len(), frames.len());
            prop_assert_eq!(decoded(&parts), whole);
        }

        /// One bit anywhere: that frame is not passed on, and nothing after it.
        #[test]
        fn damage_is_seen(frames in any_frames(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let mut bytes = frames.concat();
            let at = at.index(bytes.len());
            let (sound, _) = decoded(&[&bytes]);
            bytes[at] ^= 1 << bit;
            let (damaged, is_cut) = decoded(&[&bytes]);
            let mut end = 0;
            let n_before = frames.iter().take_while(|frame| { end += frame.len(); end <= at }).count();
            prop_assert_eq!(&damaged[..n_before], &sound[..n_before]);
            let is_told = damaged.get(n_before).is_some_and(|frame| frame == "broken");
            prop_assert!(is_told || is_cut);
            prop_assert!(damaged.len() <= n_before + 1);
        }

        #[test]
        fn cut_is_seen(frames in any_frames(), cut in any::<prop::sample::Index>()) {
            let bytes = frames.concat();
            let cut = cut.index(bytes.len());
            let (_, is_cut) = decoded(&[&bytes[..cut]]);
            let mut end = 0;
            let is_between = frames.iter().any(|frame| { end += frame.len(); end == cut });
            prop_assert_eq!(is_cut, cut != 0 && !is_between);
        }

        #[test]
        fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            decoded(&[&bytes]);
        }
    }
}
