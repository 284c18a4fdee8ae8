// SPDX-License-Identifier: Apache-2.0
//! The digest over all that a backup holds.

use aws_lc_rs::digest::{Context, SHA256};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use windlass_types::digest::Sha256Digest;

/// What is covered, in an order that does not depend on how the database lays it out.
const COVERED: [&str; 3] = [
    "SELECT name, value FROM meta ORDER BY name",
    "SELECT key, value, revision FROM keys ORDER BY key",
    "SELECT name, piece, mode, content FROM backup_files ORDER BY name, piece",
];

/// Reads everything once. Each value goes in with its kind and length, so that none can be moved into its neighbour.
pub(super) fn digest(connection: &Connection) -> rusqlite::Result<Sha256Digest> {
    let mut context = Context::new(&SHA256);
    for query in COVERED {
        context.update(query.as_bytes());
        let mut statement = connection.prepare(query)?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                add(&mut context, row.get_ref(column)?);
            }
        }
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    Ok(Sha256Digest::new(bytes))
}

fn add(context: &mut Context, value: ValueRef<'_>) {
    let mut put = |kind: u8, content: &[u8]| {
        context.update(&[kind]);
        context.update(&(content.len() as u64).to_be_bytes());
        context.update(content);
    };
    match value {
        ValueRef::Null => put(b'n', b""),
        ValueRef::Integer(number) => put(b'i', &number.to_be_bytes()),
        ValueRef::Real(number) => put(b'r', &number.to_be_bytes()),
        ValueRef::Text(text) => put(b't', text),
        ValueRef::Blob(blob) => put(b'b', blob),
    }
}
