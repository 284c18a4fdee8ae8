// SPDX-License-Identifier: Apache-2.0
//! Where chance in a simulation comes from: its seed.
//!
//! The standard library orders every `HashMap` by random numbers, and tokio chooses by them which ready branch of a
//! `select!` goes first. Both ask the C library's getrandom(2), which this program replaces by its own. Keys and
//! certificates are not made with it, so they differ from run to run; nothing but their bytes follows from that.

use std::cell::RefCell;
use std::ffi::{c_uint, c_void};
use std::io::Read as _;

use fastrand::Rng;

thread_local! {
    static CHANCE: RefCell<Option<Rng>> = const { RefCell::new(None) };
}

/// From here on chance in this thread follows from the seed.
pub(crate) fn comes_from(seed: u64) {
    CHANCE.set(Some(Rng::with_seed(seed)));
}

/// JUSTIFICATION: there is no other way to the numbers that the standard library uses.
#[expect(unsafe_code, reason = "the C library's function is replaced under its name")]
#[unsafe(no_mangle)]
extern "C" fn getrandom(buffer: *mut c_void, length: usize, _flags: c_uint) -> isize {
    // SAFETY: whoever calls getrandom(2) gives a buffer of so many bytes that nobody else uses meanwhile; they are written
    // before they are read.
    let bytes = unsafe {
        buffer.write_bytes(0, length);
        std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length)
    };
    let from_seed = CHANCE.with_borrow_mut(|chance| chance.as_mut().map(|rng| rng.fill(bytes)).is_some());
    let is_filled =
        from_seed || std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(bytes)).is_ok();
    if is_filled { isize::try_from(length).unwrap_or(-1) } else { -1 }
}
