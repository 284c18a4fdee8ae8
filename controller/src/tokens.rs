// SPDX-License-Identifier: Apache-2.0
//! One-time join tokens: 256 random bits bound to one node name, of which only a hash is kept.
//!
//! A token is written `ID.SECRET`. The id finds the record and is no secret; the secret is compared by its SHA-256 in
//! constant time, also when there is no such id, so that an answer's time tells nothing about it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use serde::{Deserialize, Serialize};
use windlass_types::digest::Sha256Digest;
use windlass_types::name::NodeName;
use windlass_types::time::UnixMillis;

use crate::clock::Clock;
use crate::pki::Serial;
use crate::store::{Committed, Compare, Revision, Store, StoreError, Transaction};

const TOKENS: &str = "tokens/";

/// More attempts than this with one token are not an honest agent's retries.
const MOST_ATTEMPTS: u32 = 8;

/// A token that ended this long ago is forgotten.
const KEEP_ENDED: Duration = Duration::from_secs(7 * 86_400);

/// The longest life: a token is for a machine that boots now, not for a drawer.
pub const LONGEST_LIFE: Duration = Duration::from_secs(7 * 86_400);

/// How long a token lives unless somebody says otherwise.
pub const DEFAULT_LIFE: Duration = Duration::from_secs(30 * 60);

/// A token as it is handed out. Its text is secret.
pub struct Token {
    id: String,
    secret: String,
}

impl Token {
    fn random() -> Result<Self, TokenError> {
        let mut bytes = [0; 38];
        rand::fill(&mut bytes).map_err(|_| TokenError::Randomness)?;
        let (id, secret) = bytes.split_at(6);
        Ok(Self { id: hex(id), secret: hex(secret) })
    }

    /// Reads what an agent presents; anything that is no token has an id that does not exist.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let (id, secret) = text.trim().split_once('.').unwrap_or_default();
        let clean = |part: &str| part.chars().filter(char::is_ascii_hexdigit).take(64).collect();
        Self { id: clean(id), secret: clean(secret) }
    }

    /// The part that is not secret.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The whole text, for the one time it is shown.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }

    fn secret_digest(&self) -> Sha256Digest {
        sha256(self.secret.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}.…)", self.id)
    }
}

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Its id.
    pub id: String,
    /// The node it is for.
    pub node: NodeName,
    /// SHA-256 of the secret.
    pub secret: Sha256Digest,
    /// Who made it.
    pub created_by: String,
    /// When it ends.
    pub expires: UnixMillis,
    /// Attempts made with the right secret.
    pub attempts: u32,
    /// What it was used for, once it was.
    pub used: Option<TokenUse>,
}

/// What a token was used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUse {
    /// SHA-256 of the public key it was used with.
    pub key: Sha256Digest,
    /// The certificate it gave.
    pub serial: Serial,
    /// That certificate, DER: the answer to the same agent asking again.
    pub certificate_der: Vec<u8>,
}

/// A failure with tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The state database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored token cannot be read.
    #[error("understand the stored token {id}")]
    Record {
        /// Which.
        id: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The system gives no random numbers.
    #[error("get random numbers from the system")]
    Randomness,
    /// There is no such token.
    #[error("there is no token {0}")]
    NotFound(String),
}

/// What a presented token is good for. Whoever presents it learns only "refused"; the rest is for the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may be used; the revision guards against a second use at the same time.
    Usable(TokenRecord, Revision),
    /// The same agent asks again: here is its certificate.
    Again(TokenRecord, TokenUse),
    /// Used with another key: one of the two is a thief.
    Reused(TokenRecord),
    /// Refused.
    Refused(Why),
}

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Nothing of that id and secret.
    #[error("no such token")]
    Unknown,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Presented too often.
    #[error("the token was presented too often")]
    TooManyAttempts,
}

/// The tokens.
#[derive(Debug)]
pub struct Tokens {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

impl Tokens {
    /// Tokens in a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Makes a token for a node.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub async fn create(&self, node: NodeName, life: Duration, by: String) -> Result<(Token, TokenRecord), TokenError> {
        let token = Token::random()?;
        let record = TokenRecord {
            id: token.id.clone(),
            node,
            secret: token.secret_digest(),
            created_by: by,
            expires: self.clock.now().plus(life),
            attempts: 0,
            used: None,
        };
        let _: Committed = self.store.commit(put(Transaction::new(), &record)).await?;
        Ok((token, record))
    }

    /// Forgets tokens that ended long ago; how many.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn forget_ended(&self) -> Result<usize, TokenError> {
        let mut all = self.list().await?;
        let now = self.clock.now();
        all.retain(|record| record.expires.plus(KEEP_ENDED) < now);
        if !all.is_empty() {
            let transaction = all.iter().fold(Transaction::new(), |transaction, old| transaction.delete(key(&old.id)));
            let _: Committed = self.store.commit(transaction).await?;
        }
        Ok(all.len())
    }

    /// All tokens, those that end last first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn list(&self) -> Result<Vec<TokenRecord>, TokenError> {
        let entries = self.store.range(TOKENS, None, usize::MAX).await?;
        let mut all = entries
            .iter()
            .map(|entry| read(&entry.key[TOKENS.len()..], &entry.value))
            .collect::<Result<Vec<_>, _>>()?;
        all.sort_by_key(|record| std::cmp::Reverse(record.expires));
        Ok(all)
    }

    /// Makes a token useless.
    ///
    /// # Errors
    /// If there is no such token or the store cannot be written.
    pub async fn delete(&self, id: &str) -> Result<NodeName, TokenError> {
        let missing = || TokenError::NotFound(id.to_owned());
        let entry = self.store.get(&key(id)).await?.ok_or_else(missing)?;
        let record = read(id, &entry.value)?;
        let _: Committed = self.store.commit(Transaction::new().delete(key(id))).await?;
        Ok(record.node)
    }

    /// Adds to a transaction that a node's tokens which were not used yet are forgotten.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn forget_unused(&self, node: &NodeName, transaction: Transaction) -> Result<Transaction, TokenError> {
        let all = self.list().await?;
        let unused = all.iter().filter(|record| record.node == *node && record.used.is_none());
        Ok(unused.fold(transaction, |transaction, record| transaction.delete(key(&record.id))))
    }

    /// Forgets a node's tokens that were not used yet.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn revoke_unused(&self, node: &NodeName) -> Result<(), TokenError> {
        let transaction = self.forget_unused(node, Transaction::new()).await?;
        let _: Committed = self.store.commit(transaction).await?;
        Ok(())
    }

    /// What a presented token is good for with this key; counts the attempt.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn examine(&self, token: &Token, public_key: Sha256Digest) -> Result<Verdict, TokenError> {
        loop {
            let entry = self.store.get(&key(token.id())).await?;
            let record = entry.as_ref().map(|entry| read(token.id(), &entry.value)).transpose()?;
            let expected = record.as_ref().map_or(Sha256Digest::new([0; 32]), |record| record.secret);
            let right = verify_slices_are_equal(expected.as_bytes(), token.secret_digest().as_bytes()).is_ok();
            let (Some(entry), Some(mut record), true) = (entry, record, right) else {
                return Ok(Verdict::Refused(Why::Unknown));
            };
            if record.attempts >= MOST_ATTEMPTS {
                return Ok(Verdict::Refused(Why::TooManyAttempts));
            }
            record.attempts += 1;
            let counted = put(Transaction::new().when(Compare::Unchanged(entry.key, entry.revision)), &record);
            if let Committed::Yes(revision) = self.store.commit(counted).await? {
                return Ok(self.verdict(record, revision, public_key));
            }
        }
    }

    /// Whether a token is still as it was examined.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn is_as_examined(&self, record: &TokenRecord, revision: Revision) -> Result<bool, StoreError> {
        Ok(self.store.get(&key(&record.id)).await?.is_some_and(|entry| entry.revision == revision))
    }

    fn verdict(&self, record: TokenRecord, revision: Revision, public_key: Sha256Digest) -> Verdict {
        if record.expires <= self.clock.now() {
            return Verdict::Refused(Why::Expired);
        }
        match record.used.clone() {
            None => Verdict::Usable(record, revision),
            Some(used) if used.key == public_key => Verdict::Again(record, used),
            Some(_) => Verdict::Reused(record),
        }
    }
}

/// Adds to a transaction that the token is used up, if it is still as it was examined.
#[must_use]
pub fn use_up(transaction: Transaction, record: &TokenRecord, revision: Revision, used: TokenUse) -> Transaction {
    let record = TokenRecord { used: Some(used), ..record.clone() };
    put(transaction.when(Compare::Unchanged(key(&record.id), revision)), &record)
}

fn put(transaction: Transaction, record: &TokenRecord) -> Transaction {
    transaction.put(key(&record.id), serde_json::to_vec(record).expect("a token record is always JSON"))
}

fn key(id: &str) -> String {
    format!("{TOKENS}{id}")
}

fn read(id: &str, value: &[u8]) -> Result<TokenRecord, TokenError> {
    serde_json::from_slice(value).map_err(|source| TokenError::Record { id: id.to_owned(), source })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(bytes: &[u8]) -> Sha256Digest {
    let mut all = [0; 32];
    all.copy_from_slice(digest(&SHA256, bytes).as_ref());
    Sha256Digest::new(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::fixed::FixedClock;
    use crate::store::memory::MemoryStore;

    const KEY: Sha256Digest = Sha256Digest::new([1; 32]);
    const OTHER: Sha256Digest = Sha256Digest::new([2; 32]);

    fn tokens() -> (Tokens, Arc<FixedClock>) {
        let clock = FixedClock::at(UnixMillis(1_000_000));
        (Tokens::new(MemoryStore::new(), clock.clone()), clock)
    }

    async fn made(tokens: &Tokens) -> Token {
        let name = NodeName::new("node1").expect("a name");
        tokens.create(name, DEFAULT_LIFE, "root".into()).await.expect("a token").0
    }

    async fn used(tokens: &Tokens, token: &Token) {
        let Verdict::Usable(record, revision) = tokens.examine(token, KEY).await.expect("the store works") else {
            panic!("a new token is usable");
        };
        let serial = "40000000000000000000000000000000".parse().expect("a serial");
        let used = TokenUse { key: KEY, serial, certificate_der: vec![] };
        let transaction = use_up(Transaction::new(), &record, revision, used);
        assert!(matches!(tokens.store.commit(transaction).await, Ok(Committed::Yes(_))));
    }

    #[tokio::test]
    async fn the_stored_record_does_not_contain_the_secret() {
        let (tokens, _) = tokens();
        let token = made(&tokens).await;
        let entry = tokens.store.get(&key(token.id())).await.expect("readable").expect("present");
        assert!(!String::from_utf8_lossy(&entry.value).contains(&token.secret));
        assert!(!format!("{token:?}").contains(&token.secret));
    }

    #[tokio::test]
    async fn the_same_key_gets_the_same_answer_and_another_key_an_alarm() {
        let (tokens, _) = tokens();
        let token = made(&tokens).await;
        used(&tokens, &token).await;
        assert!(matches!(tokens.examine(&token, KEY).await, Ok(Verdict::Again(..))));
        assert!(matches!(tokens.examine(&token, OTHER).await, Ok(Verdict::Reused(_))));
    }

    /// What one of many thieves gets: looks at the token with its own key, and uses it up if it may.
    async fn race(tokens: &Tokens, token: &Token, thief: u16) -> bool {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&thief.to_be_bytes());
        let key = Sha256Digest::new(key);
        let Verdict::Usable(record, revision) = tokens.examine(token, key).await.expect("works") else { return false };
        tokio::task::yield_now().await;
        let serial = "40000000000000000000000000000000".parse().expect("a serial");
        let used = TokenUse { key, serial, certificate_der: vec![] };
        let transaction = use_up(Transaction::new(), &record, revision, used);
        matches!(tokens.store.commit(transaction).await, Ok(Committed::Yes(_)))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a2_a_hundred_times_a_thousand_racers_use_a_token_exactly_once() {
        let (tokens, _) = tokens();
        let tokens = Arc::new(tokens);
        for _ in 0..100 {
            let token = Arc::new(made(&tokens).await);
            let racers = (0..1000).map(|thief| {
                let (tokens, token) = (Arc::clone(&tokens), Arc::clone(&token));
                tokio::spawn(async move { race(&tokens, &token, thief).await })
            });
            let mut winners = 0;
            for racer in racers.collect::<Vec<_>>() {
                winners += u32::from(racer.await.expect("no racer panics"));
            }
            assert_eq!(winners, 1, "the last one who may look uses it, nobody else");
            tokens.delete(token.id()).await.expect("deleted");
        }
    }

    #[tokio::test]
    async fn refuses_a_wrong_secret_an_old_token_and_endless_attempts() {
        let (tokens, clock) = tokens();
        let token = made(&tokens).await;
        let wrong = Token::parse(&format!("{}.{}", token.id(), "0".repeat(64)));
        assert_eq!(tokens.examine(&wrong, KEY).await.expect("works"), Verdict::Refused(Why::Unknown));
        for _ in 0..MOST_ATTEMPTS {
            assert!(matches!(tokens.examine(&token, KEY).await, Ok(Verdict::Usable(..))));
        }
        assert_eq!(tokens.examine(&token, KEY).await.expect("works"), Verdict::Refused(Why::TooManyAttempts));
        let late = made(&tokens).await;
        clock.advance(DEFAULT_LIFE);
        assert_eq!(tokens.examine(&late, KEY).await.expect("works"), Verdict::Refused(Why::Expired));
    }

    #[tokio::test]
    async fn a_token_is_forgotten_a_week_after_its_end_and_not_before() {
        let (tokens, clock) = tokens();
        let old = made(&tokens).await;
        clock.advance(DEFAULT_LIFE + KEEP_ENDED);
        assert_eq!(tokens.forget_ended().await.expect("works"), 0);
        let young = made(&tokens).await;
        clock.advance(Duration::from_millis(1));
        assert_eq!(tokens.forget_ended().await.expect("works"), 1);
        let left = tokens.list().await.expect("readable");
        assert!(left.iter().all(|record| record.id == young.id() && record.id != old.id()) && left.len() == 1);
    }

    #[tokio::test]
    async fn a_deleted_token_is_unknown() {
        let (tokens, _) = tokens();
        let token = made(&tokens).await;
        tokens.delete(token.id()).await.expect("deleted");
        assert_eq!(tokens.examine(&token, KEY).await.expect("works"), Verdict::Refused(Why::Unknown));
    }

    #[test]
    fn what_is_no_token_is_merely_unknown() {
        for text in ["", ".", "a.b.c", "x\u{1b}[2J.y", &"f".repeat(100_000)] {
            let token = Token::parse(text);
            assert!(token.id.len() <= 64 && token.secret.len() <= 64);
        }
    }
}
