// SPDX-License-Identifier: Apache-2.0
//! How often files of a node may be written: as often as somebody ordered that they become something else.

use std::collections::BTreeMap;

use windlass_types::node_step::{NodeStep, StepOrder};
use windlass_types::setting::Setting;

use super::model::{FILE, PARAMETER};

/// A file that was written, made or removed too often. Files that become what they are do not count.
pub(crate) fn too_often(effects: &BTreeMap<String, u64>, boots: u64, orders: &[StepOrder]) -> Option<String> {
    let orders_of = |is_it: fn(&NodeStep) -> bool| {
        u64::try_from(orders.iter().filter(|order| is_it(&order.step)).count()).expect("few")
    };
    let of_file = orders_of(|step| matches!(setting(step), Some(Setting::File(_))));
    let of_parameter = orders_of(|step| matches!(setting(step), Some(Setting::Sysctl { .. })));
    let of_packages = orders_of(|step| matches!(step, NodeStep::ChangePackages(_)));
    let bounds = BTreeMap::from([
        (format!("write {FILE}"), of_file),
        // What was there before anybody came is kept once.
        (format!("write {FILE}.before-windlass~"), 1),
        (format!("write /etc/sysctl.d/99-windlass-{PARAMETER}.conf"), of_parameter),
        ("write /etc/sysconfig/kernel".to_owned(), 1),
        // A boot takes it away.
        ("write /run/windlass-transaction".to_owned(), of_packages + boots),
    ]);
    effects.iter().find_map(|(effect, times)| {
        // What programs do is seen when they end.
        let is_of_file = ["write /", "make /", "remove /"].iter().any(|start| effect.starts_with(start));
        let most = bounds.get(effect).copied().unwrap_or_default();
        (is_of_file && *times > most).then(|| format!("did `{effect}` {times} times, and {most} times would do"))
    })
}

fn setting(step: &NodeStep) -> Option<&Setting> {
    if let NodeStep::ApplySetting { setting, .. } = step { Some(setting) } else { None }
}
