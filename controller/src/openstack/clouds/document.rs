// SPDX-License-Identifier: Apache-2.0
//! `clouds.yaml` as it is written, and what it means.
//!
//! Every value is held as a secret until it is known which key it belongs to: people put passwords in wrong places.
//! Keys that are not known here are for other programs. Aliases and merge keys are common in these files and allowed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_saphyr::{Location, MergeKeyPolicy, Spanned};

use super::{
    ApplicationCredential, Choice, CloudConfig, CloudsError, Domain, Interface, Login, Named, Project, Surroundings,
    variables,
};
use crate::openstack::secret::Secret;

/// A value and where it stands.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "Spanned<Secret>")]
pub(super) struct Value {
    text: Secret,
    /// Counted from 1; 0 if it stands in no file.
    line: u64,
    file: Option<Arc<str>>,
}

impl From<Spanned<Secret>> for Value {
    fn from(read: Spanned<Secret>) -> Self {
        Self { text: read.value, line: read.defined.line(), file: None }
    }
}

impl Value {
    /// A value that stands in no file.
    pub(super) fn new(text: &str) -> Self {
        Self { text: Secret::new(text), line: 0, file: None }
    }

    fn reveal(&self) -> &str {
        self.text.reveal()
    }
}

/// What `OS_INSECURE` says, as `verify` would say it.
pub(super) fn inverted(insecure: &Value) -> Value {
    let text = insecure.reveal();
    Value::new(match truth(text) {
        Some(true) => "false",
        Some(false) => "true",
        None => text,
    })
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

macro_rules! keys {
    ($(#[$meta:meta])* $name:ident { $($own:ident: $type:ty,)* } $($key:ident)*) => {
        $(#[$meta])*
        #[derive(Debug, Default, Deserialize)]
        #[serde(default)]
        pub(super) struct $name {
            $(pub(super) $own: $type,)*
            $(pub(super) $key: Option<Value>,)*
        }

        impl $name {
            /// With another laid over it.
            fn under(self, over: Self) -> Self {
                Self { $($own: self.$own.under(over.$own),)* $($key: over.$key.or(self.$key),)* }
            }

            /// Says from which file it is.
            fn mark(&mut self, file: &Arc<str>) {
                $(self.$own.mark(file);)*
                $(if let Some(value) = &mut self.$key {
                    value.file = Some(Arc::clone(file));
                })*
            }
        }
    };
}

keys! {
    /// What is said about a cloud.
    Entry { auth: Auth, }
    auth_type region_name interface endpoint_type identity_api_version cacert verify
}

keys! {
    /// As whom it is used.
    Auth {}
    auth_url username user_id password token user_domain_name user_domain_id project_name project_id
    project_domain_name project_domain_id domain_name domain_id default_domain application_credential_id
    application_credential_name application_credential_secret
}

/// A whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Document {
    pub(super) clouds: BTreeMap<String, Entry>,
}

impl Document {
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, CloudsError> {
        let mut options = serde_saphyr::Options::default();
        options.merge_keys = MergeKeyPolicy::Merge;
        let read = serde_saphyr::from_str_with_options(text, options);
        let mut document: Self = read.map_err(|error: serde_saphyr::Error| {
            let place = error.location();
            let number = |read: fn(&Location) -> u64| place.as_ref().map_or(0, read);
            // Only the first line, and without the snippet: that would show the lines around, a password among them.
            let reason = error.without_snippet().to_string().lines().next().unwrap_or_default().to_owned();
            CloudsError::Syntax {
                path: path.to_owned(),
                line: number(|place| place.line()),
                column: number(|place| place.column()),
                reason,
            }
        })?;
        let file: Arc<str> = path.display().to_string().into();
        document.clouds.values_mut().for_each(|entry| entry.mark(&file));
        Ok(document)
    }

    /// With another file laid over it, key by key.
    pub(super) fn under(mut self, over: Self) -> Self {
        for (name, over) in over.clouds {
            let entry = self.clouds.remove(&name).unwrap_or_default().under(over);
            self.clouds.insert(name, entry);
        }
        self
    }
}

/// Whose entry is made sense of.
pub(super) struct Found<'a> {
    pub(super) around: &'a Surroundings,
    pub(super) name: String,
    pub(super) origin: String,
    /// Whether it comes from variables, and errors name those.
    pub(super) variables: bool,
}

impl Found<'_> {
    pub(super) fn resolve(&self, entry: Entry, choice: &Choice) -> Result<CloudConfig, CloudsError> {
        let Entry { auth, auth_type, region_name, interface, endpoint_type, identity_api_version, cacert, verify } =
            entry;
        if let Some(version) = identity_api_version.filter(|version| !version.reveal().starts_with('3')) {
            return Err(self.wrong(
                "identity_api_version",
                &version,
                "only version 3 of the identity service is spoken",
            ));
        }
        let auth_url = self.needed("auth.auth_url", auth.auth_url.as_ref(), "")?;
        if !(auth_url.starts_with("https://") || auth_url.starts_with("http://")) {
            let found = auth.auth_url.unwrap_or_else(|| Value::new(""));
            return Err(self.wrong("auth.auth_url", &found, "it must begin with https:// or http://"));
        }
        let login = self.login(&auth, auth_type.as_ref())?;
        // An application credential has its project in it, and a second one is refused by the identity service.
        let bound = matches!(login, Login::ApplicationCredential { .. });
        let project = if bound { None } else { Some(self.project(&auth)?) };
        Ok(CloudConfig {
            name: self.name.clone(),
            auth_url,
            login,
            project,
            region: text(region_name.as_ref()),
            interface: self.interface(interface.or(endpoint_type).as_ref())?,
            cacert: text(cacert.as_ref()).map(|path| self.around.path(&path)),
            verify: self.verify(verify.as_ref(), choice)?,
            proxies: variables::proxies(self.around),
        })
    }

    fn login(&self, auth: &Auth, kind: Option<&Value>) -> Result<Login, CloudsError> {
        let implied = match auth {
            Auth { application_credential_secret: Some(_), .. } => "v3applicationcredential",
            Auth { token: Some(_), password: None, .. } => "v3token",
            _ => "v3password",
        };
        match kind.map_or(implied, |kind| kind.reveal()) {
            "password" | "v3password" => {
                let password = self.needed("auth.password", auth.password.as_ref(), "")?;
                Ok(Login::Password { user: self.user(auth)?, password: Secret::new(password) })
            }
            "token" | "v3token" => Ok(Login::Token(Secret::new(self.needed("auth.token", auth.token.as_ref(), "")?))),
            "v3applicationcredential" | "application_credential" => self.application_credential(auth),
            _ => Err(self.wrong(
                "auth_type",
                kind.unwrap_or(&Value::new(implied)),
                "password, token and v3applicationcredential are known here",
            )),
        }
    }

    fn application_credential(&self, auth: &Auth) -> Result<Login, CloudsError> {
        let key = "auth.application_credential_secret";
        let secret = Secret::new(self.needed(key, auth.application_credential_secret.as_ref(), "")?);
        let credential = match text(auth.application_credential_id.as_ref()) {
            Some(id) => ApplicationCredential::Id(id),
            None => {
                let name = auth.application_credential_name.as_ref();
                let because = " (or auth.application_credential_name with its user)";
                let name = self.needed("auth.application_credential_id", name, because)?;
                ApplicationCredential::Name { name, user: self.user(auth)? }
            }
        };
        Ok(Login::ApplicationCredential { credential, secret })
    }

    fn user(&self, auth: &Auth) -> Result<Named, CloudsError> {
        if let Some(id) = text(auth.user_id.as_ref()) {
            return Ok(Named::Id(id));
        }
        let name = self.needed("auth.username", auth.username.as_ref(), "")?;
        let domain = [&auth.user_domain_id, &auth.domain_id, &auth.user_domain_name, &auth.domain_name];
        Ok(Named::Name { name, domain: self.domain("auth.user_domain_name", domain, auth)? })
    }

    fn project(&self, auth: &Auth) -> Result<Project, CloudsError> {
        if let Some(id) = text(auth.project_id.as_ref()) {
            return Ok(Named::Id(id));
        }
        let because = ", and only in a project can machines be made";
        let name = self.needed("auth.project_name", auth.project_name.as_ref(), because)?;
        let domain = [&auth.project_domain_id, &auth.domain_id, &auth.project_domain_name, &auth.domain_name];
        Ok(Named::Name { name, domain: self.domain("auth.project_domain_name", domain, auth)? })
    }

    /// The first that is said, ids before names, or the domain for everything.
    fn domain(&self, key: &str, said: [&Option<Value>; 4], auth: &Auth) -> Result<Domain, CloudsError> {
        let [id, any_id, name, any_name] = said.map(|said| text(said.as_ref()));
        let named = name.or(any_name).map(Domain::Name);
        let default = || text(auth.default_domain.as_ref()).map(Domain::Id);
        let because = ", and a name is unique only in a domain; often it is Default";
        id.or(any_id).map(Domain::Id).or(named).or_else(default).ok_or_else(|| self.missing(key, because))
    }

    fn interface(&self, said: Option<&Value>) -> Result<Interface, CloudsError> {
        let Some(said) = said else { return Ok(Interface::Public) };
        match said.reveal().trim_end_matches("URL") {
            "public" => Ok(Interface::Public),
            "internal" => Ok(Interface::Internal),
            "admin" => Ok(Interface::Admin),
            _ => Err(self.wrong("interface", said, "it must be public, internal or admin")),
        }
    }

    fn verify(&self, said: Option<&Value>, choice: &Choice) -> Result<bool, CloudsError> {
        let Some(said) = said else { return Ok(true) };
        match truth(said.reveal()) {
            Some(false) if !choice.unverified => {
                Err(CloudsError::Unverified { cloud: self.name.clone(), origin: self.place(said) })
            }
            Some(verify) => Ok(verify),
            None => Err(self.wrong("verify", said, "it must be true or false")),
        }
    }

    fn needed(&self, key: &str, said: Option<&Value>, because: &str) -> Result<String, CloudsError> {
        text(said).ok_or_else(|| self.missing(key, because))
    }

    fn missing(&self, key: &str, because: &str) -> CloudsError {
        let (cloud, origin) = (self.name.clone(), self.origin.clone());
        CloudsError::Missing { cloud, origin, key: self.written(key), because: because.to_owned() }
    }

    /// Only for keys that are no secrets.
    fn wrong(&self, key: &str, found: &Value, why: &'static str) -> CloudsError {
        CloudsError::Value {
            cloud: self.name.clone(),
            origin: self.place(found),
            key: self.written(key),
            found: found.reveal().chars().take(80).collect(),
            why,
        }
    }

    fn place(&self, found: &Value) -> String {
        match &found.file {
            Some(file) => format!("{file}, line {}", found.line),
            None => self.origin.clone(),
        }
    }

    /// A key as the operator would write it.
    fn written(&self, key: &str) -> String {
        if !self.variables {
            return key.to_owned();
        }
        format!("OS_{}", key.trim_start_matches("auth.").to_ascii_uppercase())
    }
}

fn text(said: Option<&Value>) -> Option<String> {
    said.map(|said| said.reveal().to_owned()).filter(|text| !text.is_empty())
}
