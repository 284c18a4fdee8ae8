// SPDX-License-Identifier: Apache-2.0
//! User-data, byte by byte, and what is refused. What cloud-init itself says about it is seen in `tests/it`.

use super::*;
use windlass_types::name::MachineId;

const TOKEN: &str = "0a1b2c3d4e5f.00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn boot() -> FirstBoot {
    FirstBoot {
        name: NodeName::new("node1").expect("a name"),
        repositories: vec![Repository {
            id: "windlass".to_owned(),
            base_url: "http://10.0.2.2:8000/repo".to_owned(),
            key: "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDME\n-----END PGP PUBLIC KEY BLOCK-----\n".to_owned(),
            has_signed_metadata: true,
        }],
        package: AGENT_PACKAGE.to_owned(),
        join: JoinOrder {
            controller: "10.0.2.2:7601".to_owned(),
            pins: vec![format!("sha256:{}", "ab".repeat(32)).parse().expect("a pin")],
            token: TOKEN.to_owned(),
        },
        ssh_keys: Vec::new(),
    }
}

fn json(data: &UserData) -> serde_json::Value {
    let body = data.reveal().strip_prefix("#cloud-config\n").expect("the header that cloud-init looks for");
    serde_json::from_str(body).expect("JSON")
}

/// `WINDLASS_BLESS=1` writes them anew.
#[track_caller]
fn assert_golden(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cloud_init/golden").join(name);
    if std::env::var_os("WINDLASS_BLESS").is_some() {
        std::fs::write(&path, text).expect("written");
    }
    assert_eq!(std::fs::read_to_string(&path).expect("the golden file"), text, "{name}");
}

#[test]
fn user_data_is_as_in_the_golden_file() {
    assert_golden("first-boot.json", UserData::new(&boot()).expect("good").reveal());
}

#[test]
fn sealed_user_data_is_as_in_the_golden_file_and_holds_no_secret() {
    let sealed = UserData::sealed(&boot().name);
    assert_golden("sealed.json", sealed.reveal());
    assert!(!sealed.reveal().contains("token"));
}

#[test]
fn meta_data_and_network_config_are_as_in_the_golden_files() {
    let id = MachineId::new("9b2c6f0e-1d1f-4a57-8a37-000000000001").expect("an id");
    assert_golden("meta-data.json", &network::meta_data(&id, &boot().name));
    let lan = ("52:54:00:00:00:02", "10.0.0.171/24".parse().expect("an address"));
    assert_golden("network-config.json", &network::network_config("52:54:00:00:00:01", Some(lan)));
    assert_golden("network-config-alone.json", &network::network_config("52:54:00:00:00:01", None));
}

#[test]
fn the_token_is_once_in_the_text_in_a_file_for_root_alone_and_in_no_debug_output() {
    let boot = boot();
    let data = UserData::new(&boot).expect("good");
    assert_eq!(data.reveal().matches(TOKEN).count(), 1);
    let files = json(&data)["write_files"].as_array().expect("files").clone();
    let file = files.iter().find(|file| file["content"].as_str().is_some_and(|text| text.contains(TOKEN)));
    let file = file.expect("the file with the token");
    assert_eq!((&file["permissions"], &file["owner"]), (&"0600".into(), &"root:root".into()));
    assert!(!format!("{data:?} {boot:?}").contains(&TOKEN[13..]));
}

#[test]
fn sshd_is_off_unless_keys_are_given() {
    let off = json(&UserData::new(&boot()).expect("good"));
    assert!(off["bootcmd"].to_string().contains("sshd.service") && off["ssh_authorized_keys"].is_null());
    assert_eq!(off["users"], serde_json::json!([{"name": "root", "lock_passwd": true}]));
    let on = json(&UserData::new(&FirstBoot { ssh_keys: vec!["ssh-ed25519 AAAA a".into()], ..boot() }).expect("good"));
    assert!(!on["bootcmd"].to_string().contains("sshd") && !on["runcmd"].to_string().contains("sshd"));
    assert_eq!(on["ssh_authorized_keys"], serde_json::json!(["ssh-ed25519 AAAA a"]));
}

#[test]
fn a_name_with_dots_is_kept_whole() {
    let name = NodeName::new("node1.k8s1.example.org").expect("a name");
    let data = json(&UserData::new(&FirstBoot { name, ..boot() }).expect("good"));
    assert_eq!((&data["fqdn"], &data["prefer_fqdn_over_hostname"]), (&"node1.k8s1.example.org".into(), &true.into()));
}

#[test]
fn refuses_values_that_would_mean_something_else_where_they_are_put() {
    let with = |change: fn(&mut FirstBoot)| {
        let mut boot = boot();
        change(&mut boot);
        UserData::new(&boot).expect_err("refused").to_string()
    };
    assert!(with(|boot| boot.repositories[0].id = "a]\n[b".into()).contains("repository id"));
    assert!(with(|boot| boot.repositories[0].base_url = "http://a/\ngpgcheck=0".into()).contains("repository URL"));
    assert!(with(|boot| boot.repositories[0].base_url = "ftp://a/".into()).contains("https://"));
    assert!(with(|boot| boot.repositories[0].key = "secret?".into()).contains("(not shown)"));
    assert!(with(|boot| boot.package = "-x".into()).contains("the package"));
    assert!(with(|boot| boot.join.controller = "a b".into()).contains("HOST:PORT"));
    assert!(with(|boot| boot.join.token = "a\nb".into()).contains("(not shown)"));
    assert!(with(|boot| boot.ssh_keys = vec!["a\nb".into()]).contains("one line"));
    assert!(with(|boot| boot.repositories.clear()).contains("no repository"));
}

#[test]
fn refuses_what_a_cloud_would_not_take() {
    let mut boot = boot();
    let room = |boot: &FirstBoot| UserData::new(boot).map(|data| data.reveal().len().div_ceil(3) * 4);
    let used = room(&boot).expect("good");
    boot.repositories[0].key += &"A".repeat((LARGEST_ENCODED_BYTES - used) / 4 * 3 - 3);
    let full = room(&boot).expect("still good");
    assert!(full <= LARGEST_ENCODED_BYTES && full > LARGEST_ENCODED_BYTES - 16, "{full}");
    boot.repositories[0].key += &"A".repeat(16);
    assert!(matches!(room(&boot), Err(CloudInitError::TooLarge { encoded }) if encoded > LARGEST_ENCODED_BYTES));
}

#[test]
fn the_script_never_changes_between_machines() {
    let data = json(&UserData::new(&boot()).expect("good"));
    let files = data["write_files"].as_array().expect("files");
    let run = files.iter().find(|file| file["path"] == "/var/lib/windlass-first-boot/run").expect("the script");
    assert_eq!(run["content"], FIRST_BOOT_SCRIPT);
}
