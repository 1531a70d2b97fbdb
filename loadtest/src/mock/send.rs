//! Sends a reply, with the delays and the faults of its behaviour.

use std::time::Duration;

use super::behaviour::Behaviour;
use super::http::{Stop, Wire};
use super::journal::{End, Ticket};
use super::reply::{Framing, ID_LEN, Part, Piece, Reply};
use crate::distribution::Distribution;

/// Whether the connection takes another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Request,
    Close,
}

/// What the script does after so many content events.
enum Fault {
    Stall,
    Cut,
    Reset,
}

pub(super) async fn send(
    wire: &mut Wire,
    reply: &Reply,
    behaviour: &Behaviour,
    id: &[u8; ID_LEN],
    ticket: &mut Ticket<'_>,
) -> Result<Next, Stop> {
    before_head(wire, behaviour).await?;
    reply.head.put(&mut wire.output, id, usize::MAX);
    if let Some(delay_ms) = behaviour.drip_headers_ms {
        drip(wire, delay_ms).await?;
    } else if (reply.is_stream && !behaviour.coalesce)
        || behaviour.first_ms > 0
        || behaviour.first_delay.is_some()
    {
        wire.flush().await?;
    }
    wire.pause(behaviour.first_ms).await?;
    pause(wire, behaviour.first_delay.as_ref()).await?;
    pieces(wire, reply, behaviour, id, ticket).await?;
    wire.output.extend_from_slice(reply.end);
    wire.flush().await?;
    ticket.end = End::Complete;
    Ok(if reply.is_last { Next::Close } else { Next::Request })
}

async fn before_head(wire: &mut Wire, behaviour: &Behaviour) -> Result<(), Stop> {
    if behaviour.stall_before_headers {
        return Err(wire.gone().await);
    }
    wire.pause(behaviour.headers_ms).await?;
    pause(wire, behaviour.headers_delay.as_ref()).await?;
    if behaviour.reset_before_headers {
        wire.reset();
        return Err(Stop::Cut);
    }
    if behaviour.close_before_headers {
        return Err(Stop::Cut);
    }
    if behaviour.informational {
        wire.output.extend_from_slice(
            b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n",
        );
        wire.flush().await?;
    }
    Ok(())
}

async fn drip(wire: &mut Wire, delay_ms: u64) -> Result<(), Stop> {
    for byte in std::mem::take(&mut wire.output) {
        wire.output.push(byte);
        wire.flush().await?;
        wire.pause(delay_ms).await?;
    }
    Ok(())
}

/// Waits as long as is drawn.
async fn pause(wire: &mut Wire, delay: Option<&Distribution>) -> Result<(), Stop> {
    const PAUSE_MS_MAX: f64 = 3_600_000.0;

    let Some(delay) = delay else { return Ok(()) };
    let ms = delay.draw(&mut fastrand::Rng::new()).clamp(0.0, PAUSE_MS_MAX);
    wire.pause_for(Duration::from_secs_f64(ms / 1000.0)).await
}

/// Sends the body; its last piece stays in the buffer, for the end to go with it.
async fn pieces(
    wire: &mut Wire,
    reply: &Reply,
    behaviour: &Behaviour,
    id: &[u8; ID_LEN],
    ticket: &mut Ticket<'_>,
) -> Result<(), Stop> {
    let bytes_max = behaviour.reset_at.into_iter().chain(behaviour.cut_at).min();
    let mut contents_n = 0;
    for (index, piece) in reply.pieces.iter().enumerate() {
        let is_merged = behaviour.merge_events.is_some_and(|n| contents_n % n.max(1) != 0);
        if index > 0 && !behaviour.coalesce && !is_merged {
            wire.flush().await?;
        }
        if piece.part != Part::Opening
            && let Some(fault) = fault_at(behaviour, reply.is_stream, contents_n)
        {
            return Err(run(fault, wire).await);
        }
        if piece.part == Part::Content {
            let is_paced = behaviour.event_ms > 0 || behaviour.event_delay.is_some();
            if contents_n > 0 && is_paced {
                if !is_merged {
                    wire.flush().await?;
                }
                wire.pause(behaviour.event_ms).await?;
                pause(wire, behaviour.event_delay.as_ref()).await?;
            }
            contents_n += 1;
        }
        let left = bytes_max.map(|max| max.saturating_sub(ticket.sent_bytes));
        ticket.sent_bytes += put(wire, reply.framing, piece, id, left);
        if bytes_max.is_some_and(|max| ticket.sent_bytes >= max) {
            let fault = if bytes_max == behaviour.reset_at { Fault::Reset } else { Fault::Cut };
            return Err(run(fault, wire).await);
        }
    }
    Ok(())
}

/// Frames a piece, or the start of it, into the buffer.
fn put(
    wire: &mut Wire,
    framing: Framing,
    piece: &Piece,
    id: &[u8; ID_LEN],
    left: Option<u64>,
) -> u64 {
    let whole = piece.text.len();
    let len =
        left.and_then(|left| usize::try_from(left).ok()).map_or(whole, |left| left.min(whole));
    if len == 0 {
        return 0; // An empty chunk would end the body.
    }
    if framing == Framing::Chunked {
        put_hex(&mut wire.output, len);
        wire.output.extend_from_slice(b"\r\n");
    }
    let sent = piece.text.put(&mut wire.output, id, len);
    if framing == Framing::Chunked {
        wire.output.extend_from_slice(b"\r\n");
    }
    sent as u64
}

fn put_hex(out: &mut Vec<u8>, number: usize) {
    let digits = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        let digit = u32::try_from(number >> (4 * place) & 15).unwrap_or(0);
        out.push(char::from_digit(digit, 16).map_or(b'0', |digit| digit as u8));
    }
}

fn fault_at(behaviour: &Behaviour, is_stream: bool, content: usize) -> Option<Fault> {
    let here = Some(content).filter(|_| is_stream);
    here?;
    if behaviour.stall_at_event == here {
        Some(Fault::Stall)
    } else if behaviour.cut_at_event == here {
        Some(Fault::Cut)
    } else if behaviour.reset_at_event == here {
        Some(Fault::Reset)
    } else {
        None
    }
}

async fn run(fault: Fault, wire: &mut Wire) -> Stop {
    if let Err(stop) = wire.flush().await {
        return stop;
    }
    match fault {
        Fault::Stall => wire.gone().await,
        Fault::Cut => Stop::Cut,
        Fault::Reset => {
            wire.reset();
            Stop::Cut
        }
    }
}
