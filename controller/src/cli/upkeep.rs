// SPDX-License-Identifier: Apache-2.0
//! Keeps a profile good while it is used: whom it trusts, and its certificate.
//!
//! A remote controller shows every CA it trusts in its handshake, so each command learns of a rotation while the old CA
//! is still good. A certificate is renewed from half of its life on, and at once when another CA signs by now. None of
//! this fails a command: what it was for works with the profile as it is.

use std::path::Path;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use windlass_proto::refusal::{Reason, Refusal};
use windlass_proto::v1;
use windlass_proto::v1::admin_service_client::AdminServiceClient;
use windlass_types::error_chain::ErrorChain;
use windlass_types::escape::Escaped;
use windlass_types::time::UnixMillis;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::failure::{Cause, Failure};
use super::show::utc;
use super::terminal::Terminal;
use crate::client::{Calls, Connected};
use crate::profile::{self, Profile, ProfileError, Replacement};

/// A command must not wait long for something it can do without.
const RENEW_WITHIN: Duration = Duration::from_secs(5);

/// What stands in the way.
#[derive(Debug, thiserror::Error)]
enum UpkeepError {
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error("make a key")]
    Key(#[from] rcgen::Error),
    #[error("renew the certificate")]
    Refused(#[source] Refusal),
    #[error("the controller did not renew the certificate in time")]
    NoAnswer,
}

/// Refuses a profile whose certificate has ended. The controller would say so, too, but by closing the connection, which
/// may look like any loss of it.
///
/// # Errors
/// If it has.
pub(crate) fn require_current(profile: &Profile, path: &Path, now: UnixMillis) -> Result<(), Failure> {
    let own = CertificateDer::from_pem_slice(profile.certificate_pem.as_bytes());
    let Ok(Ok((_, own))) = own.as_deref().map(X509Certificate::from_der) else { return Ok(()) };
    let until = UnixMillis(own.validity().not_after.timestamp().saturating_mul(1000));
    if now < until {
        return Ok(());
    }
    let what = format!("use the profile {}", path.display());
    let why = format!("its certificate ended {}, and this machine's clock says {}", utc(until), utc(now));
    Err(Failure::new(Cause::NotPermitted, what)
        .because(why)
        .advise("if the clock is right, ask an admin for a new profile: windlass operator remove, then create"))
}

/// Brings a profile up to date, if it is not; says so if that fails and matters. False if the connection is good for
/// nothing more: a certificate that TLS does not accept shows with the first call.
#[must_use]
pub(crate) async fn keep(
    terminal: &Terminal,
    profile: &Profile,
    path: &Path,
    connected: &Connected,
    now: UnixMillis,
) -> bool {
    let Some(due) = Due::new(profile, &connected.shown, now) else { return true };
    let Err(error) = due.carry_out(profile, path, &connected.channel).await else { return true };
    if !error.is_of_no_account() {
        let (path, error) = (path.display().to_string(), ErrorChain(&error).to_string());
        terminal.say(format_args!(
            "warning: the profile {} was not brought up to date: {}; without it access ends with the certificate or the \
             next rotation of the CA",
            Escaped(&path),
            Escaped(&error)
        ));
    }
    !matches!(error, UpkeepError::NoAnswer | UpkeepError::Refused(Refusal { reason: Reason::Other, .. }))
}

impl UpkeepError {
    /// A controller that sees no need, one that is read-only for now, and an older one that does not know the call. If
    /// the certificate is not trusted, or there is no connection, the command itself says so.
    fn is_of_no_account(&self) -> bool {
        match self {
            Self::Refused(refusal) => {
                matches!(refusal.reason, Reason::BadRequest | Reason::ReadOnly | Reason::NotTrusted | Reason::Other)
            }
            Self::Profile(_) | Self::Key(_) | Self::NoAnswer => false,
        }
    }
}

/// What is not as it should be.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    /// Whom to trust from now on.
    ca: Option<Vec<CertificateDer<'static>>>,
    /// The certificate is to be renewed.
    renew: bool,
}

impl Due {
    fn new(profile: &Profile, shown: &[CertificateDer<'static>], now: UnixMillis) -> Option<Self> {
        let told: Vec<_> = shown.iter().filter(|der| is_authority(der)).cloned().collect();
        let signer = told.first()?;
        let known: Vec<_> = CertificateDer::pem_slice_iter(profile.ca_pem.as_bytes()).flatten().collect();
        let same = told.len() == known.len() && told.iter().all(|ca| known.contains(ca));
        let own = CertificateDer::from_pem_slice(profile.certificate_pem.as_bytes()).ok()?;
        let renew = is_due(&own, signer, now);
        (!same || renew).then(|| Self { ca: (!same).then_some(told), renew })
    }

    async fn carry_out(self, profile: &Profile, path: &Path, channel: &Calls) -> Result<(), UpkeepError> {
        // The file first: a certificate that cannot be kept must not be made.
        let replacement = Replacement::reserve(path)?;
        let mut wanted = profile.clone();
        if let Some(ca) = &self.ca {
            wanted.ca_pem = ca.iter().map(|der| profile::certificate_pem(der)).collect();
        }
        let renewed = if self.renew { renew(channel, &mut wanted).await } else { Ok(()) };
        if wanted == *profile {
            replacement.abandon();
        } else {
            replacement.complete(&wanted)?;
        }
        renewed
    }
}

async fn renew(channel: &Calls, profile: &mut Profile) -> Result<(), UpkeepError> {
    let (key, csr) = profile::new_key()?;
    let mut client = AdminServiceClient::new(channel.clone());
    let asked = client.renew_operator(v1::RenewOperatorRequest { csr_der: csr.into() });
    let answer = tokio::time::timeout(RENEW_WITHIN, asked).await.map_err(|_| UpkeepError::NoAnswer)?;
    let answer = answer.map_err(|status| UpkeepError::Refused(Refusal::from_status(&status)))?.into_inner();
    profile.certificate_pem = profile::certificate_pem(&answer.certificate_der);
    profile.key_pem = key.serialize_pem();
    Ok(())
}

/// Whether this is a CA for itself, and not one that another has signed.
fn is_authority(der: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(der)
        .is_ok_and(|(_, certificate)| certificate.is_ca() && certificate.subject() == certificate.issuer())
}

/// Whether half of the life of `own` is over, or another CA than its own signs by now.
fn is_due(own: &CertificateDer<'_>, signer: &CertificateDer<'_>, now: UnixMillis) -> bool {
    let (Ok((_, own)), Ok((_, signer))) = (X509Certificate::from_der(own), X509Certificate::from_der(signer)) else {
        return false;
    };
    let validity = own.validity();
    let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    own.issuer() != signer.subject() || now.0 / 1000 >= from.midpoint(until)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Authority, PublicKey, Purpose};

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
    const LIFE: Duration = Duration::from_secs(90 * 86_400);

    struct Bastion {
        _directory: tempfile::TempDir,
        authority: Authority,
    }

    impl Bastion {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let authority = Authority::open(directory.path(), NOW).expect("an authority");
            Self { _directory: directory, authority }
        }

        /// What the handshake shows, less the controller's own certificate.
        fn shown(&self) -> Vec<CertificateDer<'static>> {
            let bridge = self.authority.bridge(NOW).expect("a key");
            bridge.into_iter().chain(self.authority.trusted()).map(CertificateDer::from).collect()
        }

        fn profile(&self) -> Profile {
            let (key, csr) = profile::new_key().expect("a key");
            let public = PublicKey::from_request(&csr).expect("a good request");
            let purpose = Purpose::Operator(windlass_types::name::OperatorName::new("ana").expect("a name"));
            let issued = self.authority.issue(&purpose, &public, NOW, LIFE).expect("signed");
            Profile {
                controller: "bastion:7600".into(),
                ca_pem: self.authority.trusted().iter().map(|der| profile::certificate_pem(der)).collect(),
                certificate_pem: profile::certificate_pem(&issued.der),
                key_pem: key.serialize_pem(),
            }
        }
    }

    #[test]
    fn a_fresh_profile_is_left_alone_and_renewed_from_half_of_its_life_on() {
        let bastion = Bastion::new();
        let profile = bastion.profile();
        let due = |after: Duration| Due::new(&profile, &bastion.shown(), NOW.plus(after));
        assert_eq!(due(Duration::ZERO), None);
        assert_eq!(due(LIFE * 49 / 100), None);
        assert_eq!(due(LIFE * 51 / 100), Some(Due { ca: None, renew: true }));
    }

    #[test]
    fn a_profile_that_has_ended_is_refused_with_both_times() {
        let profile = Bastion::new().profile();
        require_current(&profile, Path::new("p"), NOW).expect("it is new");
        let failure = require_current(&profile, Path::new("p"), NOW.plus(LIFE)).expect_err("it has ended");
        assert_eq!(failure.exit().code(), 77);
        assert!(failure.why.matches("2027-").count() == 2 && failure.advice.contains("new profile"), "{failure}");
    }

    #[test]
    fn a_rotation_is_followed_stage_by_stage() {
        let bastion = Bastion::new();
        let mut profile = bastion.profile();
        for (stage, renews) in [("next trusted", false), ("next signs", true), ("previous dropped", true)] {
            bastion.authority.rotate(NOW).expect("the next stage");
            // The order may change without a CA coming or going; that is nothing to do.
            let due = Due::new(&profile, &bastion.shown(), NOW);
            assert_eq!(due.as_ref().is_some_and(|due| due.renew), renews, "{stage}");
            if let Some(ca) = due.and_then(|due| due.ca) {
                assert_eq!(ca.len(), bastion.authority.trusted().len(), "{stage}");
                profile.ca_pem = ca.iter().map(|der| profile::certificate_pem(der)).collect();
            }
            assert_eq!(profile.ca_pem.matches("BEGIN").count(), bastion.authority.trusted().len(), "{stage}");
        }
    }
}
