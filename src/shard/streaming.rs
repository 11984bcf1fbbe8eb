//! A connection whose request is a stream of lines: bytes go in as they come, answers go out in order, and neither
//! waits for the other as long as the lines between them are few.

use super::connection::{Connection, Context};
use crate::http::head::{Head, Version};
use crate::http::response::CONTINUE;
use crate::service::counters::EndReason;
use crate::service::{Stream, Written};

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
        self.streaming.insert(stream).target = target;
    }

    /// Takes more of the body; the lines that are whole now are on their way to their owners.
    /// No more than a slice at a turn, so that refreshes need not wait behind batches.
    pub(super) fn consume_lines(&mut self, context: &mut Context<'_>, data: &[u8]) -> usize {
        let Some(stream) = &mut self.streaming else { return 0 };
        let slice = &data[..data.len().min(*context.slice_bytes)];
        let consumed = context.service.read_lines(context.now, context.asker, stream, slice, context.asks);
        *context.slice_bytes -= consumed;
        self.is_sliced = consumed < data.len() && stream.takes_input();
        if self.is_sliced {
            context.sliced.push_back(context.asker.connection);
        }
        self.write_lines(context);
        consumed
    }

    /// Writes what answers are there, unless a send is in flight or a slice is to come: the end of either asks again.
    pub(super) fn write_lines(&mut self, context: &mut Context<'_>) {
        if self.is_sliced || self.sending.is_some() || self.ending.is_some() {
            return;
        }
        let Some(stream) = &mut self.streaming else { return };
        let target = stream.target;
        let output = self.output.get_or_insert_with(|| context.buffers.slot());
        let mut reply = context.service.reply(context.now, context.asker, target, output);
        let reason = match context.service.write_lines(stream, &mut reply) {
            Written::Open => return,
            Written::Whole => target.closes.then_some(EndReason::Closed),
            Written::Failed(reason) => Some(reason),
        };
        self.streaming = None;
        if let Some(reason) = reason {
            self.end(context.now, reason, true);
        }
    }
}
