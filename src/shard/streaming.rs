//! A connection whose request is a stream of lines: bytes go in as they come, answers go out in order, and neither
//! waits for the other as long as the lines between them are few.
//!
//! While too many lines wait for their answers nothing is read, so that a fast sender is held back by its own
//! connection. A client that sends without end and never reads is closed by the limit of a send.

use super::connection::{Connection, Context};
use crate::http::body::Body;
use crate::http::head::{Head, Version};
use crate::http::response::CONTINUE;
use crate::limits::{ANSWER_MS_MAX, BODY_LEAST_BYTES_PER_S, BODY_MS_MAX};
use crate::service::counters::EndReason;
use crate::service::problem::{self, Problem};
use crate::service::{Answer, ReplyTarget, Stream, Written};

/// Such a request.
pub(super) struct Streaming {
    body: Body,
    pub(super) stream: Box<Stream>,
    target: ReplyTarget,
    /// More of the body must have come by then: what it may stall, and what its bytes have earned, up to as much again.
    pub(super) body_deadline_ms: u64,
    /// Another line must be answered by then.
    answer_deadline_ms: u64,
}

impl Streaming {
    /// When, in monotonic milliseconds, the client or the journal is too late.
    pub(super) fn deadline_ms(&self) -> u64 {
        let answer = self.stream.is_waiting().then_some(self.answer_deadline_ms);
        let body = self.stream.takes_input().then_some(self.body_deadline_ms);
        // One of them is due, or all is written and on its way.
        answer.into_iter().chain(body).min().unwrap_or(self.answer_deadline_ms)
    }
}

impl Connection {
    pub(super) fn begin_lines(
        &mut self,
        context: &mut Context<'_>,
        head: &Head<'_>,
        is_alone: bool,
        stream: Box<Stream>,
    ) {
        if head.expect_continue && is_alone {
            self.slot(context.buffers).head.push(CONTINUE);
        }
        // The answer has no length when it begins: one to HTTP/1.0 ends with its connection.
        let target = context.service.target(head, self.is_spent(context) || head.version == Version::Http10);
        let now_ms = context.now.mono_ms();
        self.streaming = Some(Box::new(Streaming {
            body: Body::new(head.framing),
            stream,
            target,
            body_deadline_ms: now_ms + BODY_MS_MAX,
            answer_deadline_ms: now_ms + ANSWER_MS_MAX,
        }));
    }

    /// Takes more of the body; the lines that are whole now are on their way to their owners.
    /// No more than a slice at a turn, so that refreshes need not wait behind batches.
    pub(super) fn consume_lines(&mut self, context: &mut Context<'_>, data: &[u8]) -> usize {
        let Some(streaming) = &mut self.streaming else { return 0 };
        let (now_ms, stream) = (context.now.mono_ms(), &mut *streaming.stream);
        let slice = &data[..data.len().min(*context.slice_bytes)];
        let consumed = match streaming.body.decode(slice, &mut stream.input, u64::MAX) {
            Ok(consumed) => {
                let earned_ms = consumed as u64 * 1_000 / BODY_LEAST_BYTES_PER_S;
                streaming.body_deadline_ms = (streaming.body_deadline_ms + earned_ms).min(now_ms + BODY_MS_MAX);
                if !stream.is_waiting() {
                    streaming.answer_deadline_ms = now_ms + ANSWER_MS_MAX;
                }
                let whole = streaming.body.is_done();
                context.service.read_lines(context.now, context.asker, stream, whole, context.asks);
                consumed
            }
            Err(error) => {
                stream.fail(Problem::unreadable(error.told()));
                data.len()
            }
        };
        *context.slice_bytes -= consumed.min(slice.len());
        self.is_sliced = consumed < data.len() && stream.takes_input();
        if self.is_sliced {
            context.sliced.push_back(context.asker.connection);
        }
        self.write_lines(context);
        consumed
    }

    pub(super) fn handle_lines_answer(&mut self, context: &mut Context<'_>, answer: Answer) {
        let Some(streaming) = &mut self.streaming else { return };
        let (now_ms, was_full) = (context.now.mono_ms(), !streaming.stream.takes_input());
        streaming.stream.take(answer);
        streaming.answer_deadline_ms = now_ms + ANSWER_MS_MAX;
        self.write_lines(context);
        if let Some(streaming) = &mut self.streaming
            && was_full
        {
            // It was us who did not read.
            streaming.body_deadline_ms = now_ms + BODY_MS_MAX;
        }
    }

    /// Writes what answers are there, unless a send is in flight: its end asks again. So does the last slice, that one
    /// batch need not be answered by many sends.
    pub(super) fn write_lines(&mut self, context: &mut Context<'_>) {
        if self.is_sliced || self.sending.is_some() || self.ending.is_some() {
            return;
        }
        let Some(streaming) = &mut self.streaming else { return };
        let target = streaming.target;
        let output = self.output.get_or_insert_with(|| context.buffers.slot());
        let mut reply = context.service.reply(context.now, context.asker, target, output);
        match context.service.write_lines(&mut streaming.stream, &mut reply) {
            Written::Open => {}
            Written::Whole => {
                self.streaming = None;
                if target.closes {
                    self.end(context.now, EndReason::Closed, true);
                }
            }
            Written::Failed(reason) => {
                self.streaming = None;
                self.end(context.now, reason, true);
            }
        }
    }

    /// No more of the body will be read.
    pub(super) fn fail_lines(&mut self, context: &mut Context<'_>, problem: Problem) {
        let Some(streaming) = &mut self.streaming else { return };
        streaming.stream.fail(problem);
        self.write_lines(context);
    }

    /// The client has stalled, or the journal is late.
    pub(super) fn handle_lines_deadline(&mut self, context: &mut Context<'_>) {
        let Some(streaming) = &mut self.streaming else { return };
        if streaming.stream.is_waiting() && context.now.mono_ms() >= streaming.answer_deadline_ms {
            streaming.stream.give_up(&problem::JOURNAL_LATE);
            return self.write_lines(context);
        }
        self.fail_lines(context, problem::BODY_TIMED_OUT);
    }
}
