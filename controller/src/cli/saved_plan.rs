// SPDX-License-Identifier: Apache-2.0
//! The file in which a plan is saved.

use std::collections::BTreeMap;
use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use windlass_plan::Plan;
use windlass_plan::plan::SCHEMA;
use windlass_proto::v1;
use windlass_types::digest::Sha256Digest;

use super::failure::{Cause, Failure};
use super::plan::Proposed;
use crate::server::LARGEST_PLAN;

/// What a saved plan says it is.
const KIND: &str = "SavedPlan";

/// What the controller carries out, with room for the line breaks and indentation of the file.
const LARGEST_PLAN_BYTES: u64 = 4 * LARGEST_PLAN as u64;

/// A plan in a file: with what it was made from, so that it can be made again and compared.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SavedPlan {
    api_version: String,
    kind: String,
    sha256: Sha256Digest,
    spec: String,
    files: BTreeMap<String, String>,
    plan: Plan,
}

/// Saves a plan, for its owner alone.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn write(path: &Path, proposed: &Proposed) -> Result<(), Failure> {
    let Some(v1::plan_cluster_request::Wish::Spec(spec)) = proposed.request.wish.clone() else { return Ok(()) };
    let saved = SavedPlan {
        api_version: "windlass/v1".to_owned(),
        kind: KIND.to_owned(),
        sha256: proposed.plan.hash(),
        spec: spec.text,
        files: spec.files,
        plan: proposed.plan.clone(),
    };
    let failed = || Failure::new(Cause::Local, format!("save the plan in {}", path.display()));
    let text = serde_json::to_string_pretty(&saved).map_err(|error| failed().because_of(&error))?;
    // It has what the spec's files hold, secrets too.
    let private = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = private.and_then(|mut file| {
        if file.metadata()?.is_file() {
            // One that was there may have been for others too.
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        file.write_all((text + "\n").as_bytes())
    });
    written.map_err(|error| failed().because_of(&error))
}

/// Reads a saved plan.
///
/// # Errors
/// If it cannot be read, or is of another version.
pub(crate) fn read(path: &Path) -> Result<(v1::PlanClusterRequest, Plan, Sha256Digest), Failure> {
    let failed = || {
        Failure::new(Cause::Misconfigured, format!("read the plan {}", path.display()))
            .advise("make a new one: windlass plan -f FILE -o PLANFILE; a spec is given with -f")
    };
    let size = std::fs::metadata(path).map_err(|error| failed().because_of(&error))?.len();
    if size > LARGEST_PLAN_BYTES {
        return Err(failed().because(format!("it is larger than {} MiB", LARGEST_PLAN_BYTES >> 20)));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed().because_of(&error))?;
    let saved: SavedPlan = serde_json::from_str(&text).map_err(|error| failed().because_of(&error))?;
    if saved.kind != KIND || saved.plan.schema != SCHEMA {
        return Err(failed().because("it is of another version"));
    }
    let spec = v1::ClusterSpec { text: saved.spec, files: saved.files };
    let request = v1::PlanClusterRequest { wish: Some(v1::plan_cluster_request::Wish::Spec(spec)) };
    Ok((request, saved.plan, saved.sha256))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_given_as_a_plan_is_told_so() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("cluster.yaml");
        std::fs::write(&path, "apiVersion: windlass/v1\n").expect("written");
        let failure = read(&path).expect_err("no plan");
        assert!(failure.exit().code() == 78 && failure.advice.contains("-f"), "{failure}");
    }
}
