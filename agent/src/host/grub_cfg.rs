// SPDX-License-Identifier: Apache-2.0
//! The menu in a generated grub.cfg, where there are no boot loader entries: CentOS 7 and Debian.

use super::boot_entries::grubenv_value;
use super::grubby::release_of;

/// Configurations and the environment block beside each.
pub const PATHS: [(&str, &str); 3] = [
    ("/boot/grub2/grub.cfg", "/boot/grub2/grubenv"),
    ("/boot/grub/grub.cfg", "/boot/grub/grubenv"),
    // Where the firmware is UEFI, as on CentOS 7, both lead to files on the EFI system partition.
    ("/etc/grub2-efi.cfg", "/boot/grub2/grubenv"),
];

/// Deepest submenu that is looked at; generated menus have one.
const DEEPEST: usize = 8;

/// A menu entry, or a submenu with items of its own.
#[derive(Debug, Default)]
struct Item {
    title: String,
    id: Option<String>,
    release: Option<String>,
    options: String,
    items: Vec<Item>,
}

/// The kernel release of the default entry, or `None` if it cannot be told.
#[must_use]
pub fn default_release(cfg: &str, grubenv: &str) -> Option<String> {
    let assigned = cfg.lines().filter_map(|line| line.trim().strip_prefix("set default="));
    let default = assigned.map(|value| value.trim_matches('"')).rfind(|value| !value.contains("next_entry"))?;
    let chosen =
        if default == "${saved_entry}" { grubenv_value(grubenv, "saved_entry").unwrap_or("0") } else { default };
    release_of_entry(cfg, chosen)
}

/// The kernel release of an entry, named as grub-reboot(8) takes it: number, title or id, with those of the submenus it is
/// in before it and `>` between.
#[must_use]
pub fn release_of_entry(cfg: &str, chosen: &str) -> Option<String> {
    let menu = parse_menu(cfg);
    let mut items = &menu;
    let mut release = None;
    for part in chosen.split('>') {
        let item = find(items, part)?;
        (items, release) = (&item.items, item.release.clone());
    }
    // A submenu opens on its first item.
    release.or_else(|| items.first()?.release.clone())
}

/// The name by which grub-reboot(8) takes the entry of a kernel; not one that starts it for recovery.
#[must_use]
pub fn entry_of_release(cfg: &str, release: &str) -> Option<String> {
    // The first is often the plain entry of the newest kernel, whose id is that of whichever kernel is the newest.
    let mut found: Vec<(bool, String)> = Vec::new();
    collect(&parse_menu(cfg), release, "", &mut found);
    found.sort_by_key(|(is_named, _)| !is_named);
    found.into_iter().next().map(|(_, entry)| entry)
}

/// What an entry starts its kernel with, named as by [`entry_of_release`].
#[must_use]
pub fn options_of_entry(cfg: &str, chosen: &str) -> Option<String> {
    let menu = parse_menu(cfg);
    let mut parts = chosen.split('>');
    let mut item = find(&menu, parts.next()?)?;
    for part in parts {
        item = find(&item.items, part)?;
    }
    Some(item.options.clone())
}

fn collect(items: &[Item], release: &str, within: &str, found: &mut Vec<(bool, String)>) {
    for (index, item) in items.iter().enumerate() {
        let name = name_of(items, index);
        let path = format!("{within}{name}");
        let is_recovery = name.contains("recovery") || item.title.contains("recovery mode");
        if item.release.as_deref() == Some(release) && !is_recovery {
            found.push((name.contains(release), path.clone()));
        }
        collect(&item.items, release, &format!("{path}>"), found);
    }
}

/// What leads to this item and to no other: on CentOS 7 each new kernel's entry has the id of the entry it was copied from.
fn name_of(items: &[Item], index: usize) -> String {
    let item = &items[index];
    let leads_here = |name: &&str| find(items, name).is_some_and(|found| std::ptr::eq(found, item));
    let named = item.id.as_deref().into_iter().chain([item.title.as_str()]).find(leads_here);
    named.map_or_else(|| index.to_string(), str::to_owned)
}

fn find<'a>(items: &'a [Item], name: &str) -> Option<&'a Item> {
    let named = items.iter().find(|item| item.title == name || item.id.as_deref() == Some(name));
    named.or_else(|| items.get(name.parse::<usize>().ok()?))
}

fn parse_menu(cfg: &str) -> Vec<Item> {
    let mut open = vec![Item::default()];
    for line in cfg.lines().map(str::trim) {
        let word = line.split_whitespace().next().unwrap_or_default();
        match word {
            "menuentry" | "submenu" if line.ends_with('{') && open.len() < DEEPEST => open.push(heading(line)),
            "linux" | "linux16" | "linuxefi" => {
                if let Some(item) = open.last_mut() {
                    item.release = line.split_whitespace().nth(1).and_then(release_of);
                    item.options = line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ");
                }
            }
            "}" if open.len() > 1 => close(&mut open),
            _ => {}
        }
    }
    while open.len() > 1 {
        close(&mut open);
    }
    open.pop().map(|root| root.items).unwrap_or_default()
}

fn close(open: &mut Vec<Item>) {
    if let Some(item) = open.pop()
        && let Some(outer) = open.last_mut()
    {
        outer.items.push(item);
    }
}

/// `menuentry 'Title' … $menuentry_id_option 'id' {`
fn heading(line: &str) -> Item {
    let quoted = |text: &str| text.split('\'').nth(1).map(str::to_owned);
    let id = line.split_once("$menuentry_id_option").and_then(|(_, after)| quoted(after));
    Item { title: quoted(line).unwrap_or_default(), id, ..Item::default() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    const EL7: &str = include_str!("fixtures/el7-grub.cfg");
    const DEBIAN: &str = include_str!("fixtures/debian12-grub.cfg");

    #[test]
    fn finds_the_default_by_number_title_and_path() {
        let old = "saved_entry=CentOS Linux (3.10.0-1160.el7.x86_64) 7 (Core)\n";
        let nested =
            DEBIAN.replace("default=\"0\"", "default=\"gnulinux-advanced-1111>gnulinux-6.1.0-18-amd64-advanced-1111\"");
        let submenu = DEBIAN.replace("default=\"0\"", "default=\"1\"");
        for (cfg, grubenv, release) in [
            (EL7, "saved_entry=0\n", Some("3.10.0-1160.119.1.el7.x86_64")),
            (EL7, "", Some("3.10.0-1160.119.1.el7.x86_64")),
            (EL7, old, Some("3.10.0-1160.el7.x86_64")),
            (EL7, "saved_entry=gone\n", None),
            (DEBIAN, "", Some("6.1.0-21-amd64")),
            (&nested, "", Some("6.1.0-18-amd64")),
            (&submenu, "", Some("6.1.0-21-amd64")),
            ("", "", None),
        ] {
            assert_eq!(default_release(cfg, grubenv).as_deref(), release, "{grubenv}");
        }
    }

    #[test]
    fn an_entry_is_found_by_its_kernel_and_leads_back_to_it() {
        for (cfg, release) in [
            (EL7, "3.10.0-1160.119.1.el7.x86_64"),
            (EL7, "3.10.0-1160.el7.x86_64"),
            (DEBIAN, "6.1.0-21-amd64"),
            (DEBIAN, "6.1.0-18-amd64"),
        ] {
            let entry = entry_of_release(cfg, release).unwrap();
            assert!(!entry.contains("recovery"), "{entry}");
            assert_eq!(release_of_entry(cfg, &entry).as_deref(), Some(release), "{entry}");
        }
        let nested = entry_of_release(DEBIAN, "6.1.0-21-amd64").unwrap();
        assert!(nested.contains('>') && nested.contains("6.1.0-21-amd64"), "not whichever is the newest: {nested}");
        assert_eq!(entry_of_release(DEBIAN, "5.10"), None);
    }

    #[test]
    fn what_a_kernel_is_started_with_is_told() {
        let options = |cfg, release| options_of_entry(cfg, &entry_of_release(cfg, release)?);
        let el7 = options(EL7, "3.10.0-1160.el7.x86_64").unwrap();
        assert!(el7.starts_with("root=/dev/mapper/centos-root ro"), "{el7}");
        assert_eq!(options(DEBIAN, "6.1.0-18-amd64").as_deref(), Some("root=UUID=1111 ro quiet"));
        assert_eq!(options(DEBIAN, "5.10"), None);
    }

    proptest! {
        #[test]
        fn garbage_does_not_panic(text in any::<String>()) {
            let _ = default_release(&text, &text);
            let _ = entry_of_release(&text, &text);
            let _ = default_release(&format!("set default=\"{text}\"\nmenuentry '{text} {{\nlinux {text}\n}}\n}}"), &text);
        }
    }
}
