// SPDX-License-Identifier: Apache-2.0
//! The menu in a generated grub.cfg, where there are no boot loader entries: CentOS 7 and Debian.

use super::boot_entries::grubenv_value;
use super::grubby::release_of;

/// Configurations and the environment block beside each.
pub const PATHS: [(&str, &str); 2] =
    [("/boot/grub2/grub.cfg", "/boot/grub2/grubenv"), ("/boot/grub/grub.cfg", "/boot/grub/grubenv")];

/// Deepest submenu that is looked at; generated menus have one.
const DEEPEST: usize = 8;

/// A menu entry, or a submenu with items of its own.
#[derive(Debug, Default)]
struct Item {
    title: String,
    id: Option<String>,
    release: Option<String>,
    items: Vec<Item>,
}

/// The kernel release of the default entry, or `None` if it cannot be told.
#[must_use]
pub fn default_release(cfg: &str, grubenv: &str) -> Option<String> {
    let assigned = cfg.lines().filter_map(|line| line.trim().strip_prefix("set default="));
    let default = assigned.map(|value| value.trim_matches('"')).rfind(|value| !value.contains("next_entry"))?;
    let chosen =
        if default == "${saved_entry}" { grubenv_value(grubenv, "saved_entry").unwrap_or("0") } else { default };
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

    proptest! {
        #[test]
        fn garbage_does_not_panic(text in any::<String>()) {
            let _ = default_release(&text, &text);
            let _ = default_release(&format!("set default=\"{text}\"\nmenuentry '{text} {{\nlinux {text}\n}}\n}}"), &text);
        }
    }
}
