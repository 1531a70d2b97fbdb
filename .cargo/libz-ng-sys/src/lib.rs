//! zlib in Rust under the name that pingora-core's `flate2` asks for.
//!
//! pingora-core switches on `flate2/zlib-ng`, whose C sources want cmake. This crate takes its
//! place with the zlib port in Rust, so that a build needs a C compiler and nothing else. It has
//! what `flate2` calls: the C bindings declare the two allocator hooks as plain function pointers,
//! the port as optional ones, which is the same layout.
#![no_std]
#![allow(non_camel_case_types, non_snake_case, reason = "the names are zlib's")]

use core::ffi::{c_char, c_int, c_uint, c_ulong, c_void};

pub use libz_rs_sys::{
    Z_BLOCK, Z_BUF_ERROR, Z_DATA_ERROR, Z_DEFAULT_STRATEGY, Z_DEFLATED, Z_ERRNO, Z_FINISH,
    Z_FULL_FLUSH, Z_MEM_ERROR, Z_NEED_DICT, Z_NO_FLUSH, Z_OK, Z_PARTIAL_FLUSH, Z_STREAM_END,
    Z_STREAM_ERROR, Z_SYNC_FLUSH, Z_VERSION_ERROR, internal_state, zlibVersion,
};

pub type uInt = c_uint;
pub type alloc_func = unsafe extern "C" fn(*mut c_void, c_uint, c_uint) -> *mut c_void;
pub type free_func = unsafe extern "C" fn(*mut c_void, *mut c_void);

/// zlib's `z_stream`, field for field.
#[repr(C)]
#[derive(Copy, Clone)]
pub struct z_stream {
    pub next_in: *mut u8,
    pub avail_in: c_uint,
    pub total_in: c_ulong,
    pub next_out: *mut u8,
    pub avail_out: c_uint,
    pub total_out: c_ulong,
    pub msg: *mut c_char,
    pub state: *mut internal_state,
    pub zalloc: alloc_func,
    pub zfree: free_func,
    pub opaque: *mut c_void,
    pub data_type: c_int,
    pub adler: c_ulong,
    pub reserved: c_ulong,
}
pub type z_streamp = *mut z_stream;

const _: () = assert!(size_of::<z_stream>() == size_of::<libz_rs_sys::z_stream>());
const _: () = assert!(align_of::<z_stream>() == align_of::<libz_rs_sys::z_stream>());

/// Declares functions that hand their arguments to the port, the stream by its other name.
macro_rules! forward {
    ($($name:ident($($arg:ident: $kind:ty),*);)*) => {$(
        /// # Safety
        ///
        /// As zlib's manual asks of its callers.
        pub unsafe extern "C" fn $name(stream: z_streamp $(, $arg: $kind)*) -> c_int {
            // SAFETY: the layouts are equal (asserted above); the rest is the caller's promise.
            unsafe { libz_rs_sys::$name(stream.cast() $(, $arg)*) }
        }
    )*};
}

forward! {
    deflate(flush: c_int);
    deflateEnd();
    deflateReset();
    deflateParams(level: c_int, strategy: c_int);
    deflateSetDictionary(dictionary: *const u8, length: c_uint);
    inflate(flush: c_int);
    inflateEnd();
    inflateReset();
    inflateReset2(window_bits: c_int);
    inflateSetDictionary(dictionary: *const u8, length: c_uint);
    inflateInit2_(window_bits: c_int, version: *const c_char, stream_size: c_int);
}

/// # Safety
///
/// As zlib's manual asks of its callers.
#[expect(clippy::too_many_arguments, reason = "the signature is zlib's")]
pub unsafe extern "C" fn deflateInit2_(
    stream: z_streamp,
    level: c_int,
    method: c_int,
    window_bits: c_int,
    mem_level: c_int,
    strategy: c_int,
    version: *const c_char,
    stream_size: c_int,
) -> c_int {
    // SAFETY: as for the functions above.
    unsafe {
        libz_rs_sys::deflateInit2_(
            stream.cast(),
            level,
            method,
            window_bits,
            mem_level,
            strategy,
            version,
            stream_size,
        )
    }
}
