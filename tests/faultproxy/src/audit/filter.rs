//! Which entries of an audit log are meant.

use crate::audit::Entry;

/// Conditions on entries, all of which must hold. None set means every entry.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    user: Option<String>,
    verbs: Vec<String>,
    resource: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    subresource: Option<String>,
    code: Option<u16>,
    user_agent: Option<String>,
    mutating: bool,
}

impl AuditFilter {
    /// Every entry.
    pub fn any() -> Self {
        Self::default()
    }

    /// Requests that would store something ([`Entry::is_mutating`]).
    pub fn mutating() -> Self {
        Self {
            mutating: true,
            ..Self::default()
        }
    }

    /// By this user, given in full.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// By this service account.
    #[must_use]
    pub fn service_account(self, namespace: &str, name: &str) -> Self {
        self.user(&format!("system:serviceaccount:{namespace}:{name}"))
    }

    /// With this verb; given several times, with any of them.
    #[must_use]
    pub fn verb(mut self, verb: &str) -> Self {
        self.verbs.push(verb.to_owned());
        self
    }

    /// About this resource, given as `deployments` or `deployments.apps`.
    #[must_use]
    pub fn resource(mut self, resource: &str) -> Self {
        self.resource = Some(resource.to_owned());
        self
    }

    /// In this namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// About the object of this name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// About this subresource; an empty one means the object itself.
    #[must_use]
    pub fn subresource(mut self, subresource: &str) -> Self {
        self.subresource = Some(subresource.to_owned());
        self
    }

    /// Answered with this code.
    #[must_use]
    pub fn code(mut self, code: u16) -> Self {
        self.code = Some(code);
        self
    }

    /// By a client whose user agent begins with this.
    #[must_use]
    pub fn user_agent(mut self, prefix: &str) -> Self {
        self.user_agent = Some(prefix.to_owned());
        self
    }

    /// Whether an entry fulfils all conditions.
    pub fn matches(&self, entry: &Entry) -> bool {
        let object = entry.object_ref.clone().unwrap_or_default();
        let is =
            |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|w| w == found);
        let resource = self
            .resource
            .as_deref()
            .is_none_or(|wanted| match wanted.split_once('.') {
                Some((plural, group)) => object.resource == plural && object.api_group == group,
                None => object.resource == wanted,
            });
        resource
            && is(&self.user, entry.user())
            && (self.verbs.is_empty() || self.verbs.contains(&entry.verb))
            && is(&self.namespace, &object.namespace)
            && is(&self.name, &object.name)
            && is(&self.subresource, &object.subresource)
            && self.code.is_none_or(|code| code == entry.code())
            && self
                .user_agent
                .as_deref()
                .is_none_or(|prefix| entry.user_agent.starts_with(prefix))
            && (!self.mutating || entry.is_mutating())
    }
}
