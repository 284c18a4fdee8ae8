// SPDX-License-Identifier: Apache-2.0
//! Moving the fleet to a new CA: trust the next one everywhere, sign with it, stop trusting the old one.
//!
//! Each stage is one call, so that a person sees what would be left behind before going on.

use std::sync::Arc;

use windlass_proto::refusal::{Reason, Refusal};
use windlass_proto::v1;
use windlass_proto::v1::connect_response::Message as Down;
use windlass_types::error_chain::ErrorChain;

use super::Controller;
use crate::pki::RotationStage;

/// What the next stage is and who would be left behind.
#[must_use]
pub fn preview(controller: &Controller) -> v1::RotateCaResponse {
    let stage = controller.trust.authority().stage();
    let text = match stage {
        RotationStage::None => "would make a new CA and have every agent trust it beside the current one",
        RotationStage::NextTrusted => "would sign with the new CA from now on; the old one stays trusted",
        RotationStage::PreviousTrusted => "would stop trusting the old CA; the rotation is then complete",
    };
    answer(controller, text, behind(controller, stage), stage == RotationStage::None)
}

/// Takes the next stage.
///
/// # Errors
/// If nodes would be left behind and `leave_behind` is not set, or files cannot be written.
pub fn advance(controller: &Arc<Controller>, leave_behind: bool) -> Result<v1::RotateCaResponse, Refusal> {
    let authority = controller.trust.authority();
    let behind = behind(controller, authority.stage());
    if !behind.is_empty() && !leave_behind {
        let names: Vec<_> = behind.iter().take(5).map(String::as_str).collect();
        let (count, are) = (behind.len(), if behind.len() == 1 { "is" } else { "are" });
        let message = format!("{count} {are} not ready for this stage, such as {}", names.join(", "));
        return Err(Refusal::new(Reason::Unsafe, message).advise(
            "wait until nodes have connected and renewed and operators have called, or give --leave-behind and enrol \
             them anew",
        ));
    }
    let now = controller.clock.now();
    let failed = |error: &dyn std::error::Error| Refusal::new(Reason::Other, ErrorChain(error).to_string());
    let stage = authority.rotate(now).map_err(|error| failed(&error))?;
    if let Some(tls) = controller.tls.get() {
        tls.renew(authority).map_err(|error| failed(&error))?;
    }
    controller.fleet.broadcast(&Down::Welcome(v1::Welcome {
        epoch: controller.epoch.number(),
        heartbeat_interval_millis: u32::try_from(controller.settings.heartbeat.as_millis()).unwrap_or(u32::MAX),
        unix_millis: now.0,
        ca_der: authority.trusted().into_iter().map(Into::into).collect(),
        renewal_spread_millis: controller.fleet.renewal_spread_millis(),
    }));
    let text = match stage {
        RotationStage::NextTrusted => "made a new CA; agents trust it beside the current one as they connect",
        RotationStage::PreviousTrusted => {
            "signing with the new CA; agents renew their certificates now, command lines when they are used next"
        }
        RotationStage::None => "the old CA is no longer trusted; the rotation is complete",
    };
    Ok(answer(controller, text, Vec::new(), stage == RotationStage::None))
}

/// Whom the next stage would leave behind: nodes that are not connected or have not said that they trust the next CA, or
/// nodes and operators whose newest certificate is still of the old one.
fn behind(controller: &Controller, stage: RotationStage) -> Vec<String> {
    let trust = &controller.trust;
    match stage {
        RotationStage::None => Vec::new(),
        RotationStage::NextTrusted => {
            controller.fleet.not_trusting(&trust.authority().trusted()).iter().map(ToString::to_string).collect()
        }
        RotationStage::PreviousTrusted => trust.authority().signing_since().map_or_else(Vec::new, |moment| {
            let nodes = trust.nodes_signed_before(moment).into_iter().map(|name| name.to_string());
            let operators = trust.operators_signed_before(moment).into_iter().map(|name| format!("operator {name}"));
            nodes.chain(operators).collect()
        }),
    }
}

fn answer(controller: &Controller, stage: &str, behind: Vec<String>, complete: bool) -> v1::RotateCaResponse {
    v1::RotateCaResponse {
        stage: stage.to_owned(),
        behind,
        ca_pins: controller.trust.authority().pins().iter().map(ToString::to_string).collect(),
        complete,
    }
}
