// SPDX-License-Identifier: Apache-2.0
//! How the node differs from what it shall be. Changes nothing.

use windlass_types::name::on_node::KernelRelease;
use windlass_types::setting::Setting;
use windlass_types::survey::{Found, InstalledKernel, Kernels, SCHEMA, Survey, SurveyRequest};

use super::{Here, StepError, settings};
use crate::host::grub::Grub;
use crate::host::kernel_files;
use crate::observe;

/// Answers as JSON.
pub(super) async fn answer(here: &Here<'_>, request: &SurveyRequest) -> Result<String, StepError> {
    let survey = survey(here, request).await?;
    serde_json::to_string(&survey)
        .map_err(|error| StepError::Unreadable { program: "the survey", reason: error.to_string() })
}

pub(super) async fn survey(here: &Here<'_>, request: &SurveyRequest) -> Result<Survey, StepError> {
    let coming = request.settings.iter().filter_map(|setting| {
        if let Setting::User(user) = setting { user.present.then(|| user.name.clone()) } else { None }
    });
    let coming = coming.collect();
    let mut found = Vec::with_capacity(request.settings.len());
    for setting in &request.settings {
        found.push(settings::look(here, setting, &coming).await?);
    }
    Ok(Survey {
        schema: SCHEMA,
        boot_id: here.boot_id()?,
        kernels: kernels(here).await?,
        reboot_reasons: Vec::new(),
        outdated_services: Vec::new(),
        interrupted: None,
        settings: found,
        packages: request.packages.as_ref().map(|_| not_yet()),
        kernel: request.kernel.as_ref().map(|_| not_yet()),
    })
}

fn not_yet<T>() -> Found<T> {
    let reason = "this version of the agent does not look after packages".to_owned();
    Found::Blocked { reason, advice: "upgrade the agent".to_owned() }
}

/// The kernels that are there and which of them is started.
pub(super) async fn kernels(here: &Here<'_>) -> Result<Kernels, StepError> {
    let running = here.running_kernel()?;
    let running = KernelRelease::new(running.as_str())
        .map_err(|error| StepError::Unreadable { program: "uname", reason: error.to_string() })?;
    let default = observe::kernel::default_release(here.host).await;
    let once = Grub::of(here.host).and_then(|grub| grub.once(here.host));
    let installed = kernel_files::releases(here.host);
    Ok(Kernels {
        running,
        default: default.and_then(|release| KernelRelease::new(release).ok()),
        once: once.and_then(|release| KernelRelease::new(release).ok()),
        installed: installed.into_iter().map(|release| InstalledKernel { release, package: None }).collect(),
    })
}
