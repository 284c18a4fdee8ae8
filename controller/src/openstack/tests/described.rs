// SPDX-License-Identifier: Apache-2.0
//! What is added to things that are there.

use std::collections::BTreeMap;

use serde_json::json;

use super::calls::sent;

fn ours() -> BTreeMap<String, String> {
    BTreeMap::from([("windlass:node".to_owned(), "node1".to_owned())])
}

#[tokio::test]
async fn metadata_is_added_and_never_replaced() {
    let expected = json!({"metadata": {"windlass:node": "node1"}});
    let line = "POST /compute/v2.1/servers/s1/metadata";
    let (body, done) = sent(line, expected.clone(), async |cloud| cloud.describe_server("s1", &ours()).await).await;
    assert!(done.is_ok() && body == expected, "{body}");
    let line = "POST /volume/v3/p1/volumes/v1/metadata";
    let (body, done) = sent(line, expected.clone(), async |cloud| cloud.describe_volume("v1", &ours()).await).await;
    assert!(done.is_ok() && body == expected, "{body}");
}

#[tokio::test]
async fn a_port_is_told_all_of_its_groups() {
    let groups = ["g1".to_owned(), "g2".to_owned()];
    let line = "PUT /network/v2.0/ports/p1";
    let (body, done) =
        sent(line, json!({"port": {}}), async |cloud| cloud.set_security_groups("p1", &groups).await).await;
    assert!(done.is_ok(), "{done:?}");
    assert_eq!(body, json!({"port": {"security_groups": ["g1", "g2"]}}));
}
