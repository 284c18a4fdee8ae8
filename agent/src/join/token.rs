// SPDX-License-Identifier: Apache-2.0
//! The one-time token, as it lies in its file.

use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::JoinError;

/// No token is longer; a larger file is not a token file.
const LONGEST_TOKEN_BYTES: u64 = 1024;

/// A token. Never shown.
pub(super) struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    pub(super) fn read(path: &Path) -> Result<Self, JoinError> {
        let failed = |source| JoinError::TokenFile { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            tracing::warn!(path = %path.display(), "others may read the token file: mode {:04o}", mode & 0o7777);
        }
        let mut text = String::new();
        file.take(LONGEST_TOKEN_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
        let token = text.trim();
        let plain = token.bytes().all(|byte| byte.is_ascii_graphic());
        if token.is_empty() || !plain || text.len() as u64 > LONGEST_TOKEN_BYTES {
            return Err(JoinError::NotAToken { path: path.to_owned() });
        }
        Ok(Self(token.to_owned()))
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}
