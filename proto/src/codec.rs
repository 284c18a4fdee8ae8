// SPDX-License-Identifier: Apache-2.0
//! The codec every generated service uses: prost with small initial buffers.
//!
//! tonic allocates 8 KiB for encoding and 8 KiB for decoding per stream. A controller holds thousands of sessions whose
//! messages are tens of bytes, so each buffer starts at [`INITIAL_BUFFER_BYTES`] and grows when a message needs it.

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::ProstCodec;

/// Starts below a heartbeat's frame plus header, so that an idle session costs little; growth doubles it.
const INITIAL_BUFFER_BYTES: usize = 512;

/// How much may gather before a frame is yielded; larger only helps bulk transfers, whose pieces are 64 KiB anyway.
const YIELD_THRESHOLD_BYTES: usize = 32 * 1024;

/// Prost over gRPC with small buffers.
#[derive(Debug, Clone)]
pub struct SmallBuffers<T, U>(std::marker::PhantomData<(T, U)>);

impl<T, U> Default for SmallBuffers<T, U> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

fn settings() -> BufferSettings {
    BufferSettings::new(INITIAL_BUFFER_BYTES, YIELD_THRESHOLD_BYTES)
}

impl<T, U> Codec for SmallBuffers<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(settings())
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(settings())
    }
}
