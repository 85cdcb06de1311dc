//! Whole requests, as bytes.

use std::io::{self, Write};
use std::ops::Range;

use crate::Options;
use crate::beats::{Beats, compress};

/// Makes the requests of a run.
#[derive(Debug)]
pub struct Requests {
    beats: Beats,
    /// Rendered before the clock starts, so that making them is not measured.
    pool: Vec<Vec<u8>>,
}

impl Requests {
    /// Renders the pool, if there is to be one.
    pub fn prepare(options: &Options, beats: Beats) -> io::Result<Self> {
        let mut made = Self { beats, pool: Vec::new() };
        let wanted = options.pool.min(options.heartbeats.div_ceil(options.bulk));
        let mut scratch = Scratch::default();
        for place in 0..wanted {
            let first = options.first + place * options.bulk;
            let mut request = Vec::new();
            made.write(options, options.numbers(first), &mut scratch, &mut request)?;
            request.shrink_to_fit();
            made.pool.push(request);
        }
        Ok(made)
    }

    /// The request with the heartbeats of these numbers, or with a pool the next one of that: from there, or from
    /// `scratch`.
    pub fn get<'a>(
        &'a self,
        options: &Options,
        numbers: Range<u64>,
        scratch: &'a mut (Scratch, Vec<u8>),
    ) -> io::Result<&'a [u8]> {
        if !self.pool.is_empty() {
            let place = (numbers.start - options.first) / options.bulk;
            return Ok(&self.pool[place as usize % self.pool.len()]);
        }
        self.write(options, numbers, &mut scratch.0, &mut scratch.1)?;
        Ok(&scratch.1)
    }

    fn write(
        &self,
        options: &Options,
        numbers: Range<u64>,
        scratch: &mut Scratch,
        request: &mut Vec<u8>,
    ) -> io::Result<()> {
        let Scratch { body, packed } = scratch;
        self.beats.write(numbers, options.form, body);
        let (body, encoding) = if options.gzip {
            compress(body, packed)?;
            (packed, "content-encoding: gzip\r\n")
        } else {
            (body, "")
        };
        request.clear();
        write!(
            request,
            "POST /v1/heartbeats HTTP/1.1\r\nhost: {}\r\ncontent-type: {}\r\n{encoding}content-length: {}\r\n\r\n",
            options.address,
            options.form.media_type(),
            body.len()
        )?;
        request.extend_from_slice(body);
        Ok(())
    }
}

/// Memory of one connection.
#[derive(Debug, Default)]
pub struct Scratch {
    body: Vec<u8>,
    packed: Vec<u8>,
}
