//! Who calls, and what they may do.
//!
//! ```text
//! superadmin   everything, in every workspace
//! admin        users, global connections and models, the audit log, usage of all
//! member       what their workspaces let them
//!
//! owner        everything in a workspace
//! admin        settings, members up to admin, resources
//! member       reads settings and usage, payloads included
//! viewer       reads usage, without payloads
//! ```
//!
//! A token may do what its user may at this moment, and of that only what it was made for.

use uuid::Uuid;

use crate::control::store::audit::Actor;
use crate::control::store::identity::{MemberRow, PlatformRole, TokenRow, UserRow, WorkspaceRole};
use crate::usage::query::{Extent, Visible};

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Nothing: everybody may.
    Open,
    /// To be somebody.
    SignedIn,
    ManageUsers,
    ReadGlobal,
    ManageGlobal,
    ReadAudit,
    ExportAudit,
    /// Documents of everything, and what is active.
    ManageState,
    CreateWorkspace,
    /// To see that a workspace is there.
    SeeWorkspace,
    ReadWorkspace,
    ManageWorkspace,
    OwnWorkspace,
    ManageMembers,
    ReadUsage,
}

/// Whether somebody may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Granted,
    /// They may know that it exists.
    Forbidden,
    /// They may not.
    Hidden,
}

/// The workspace, and perhaps the environment, that a call is about.
pub type Where = (Uuid, Option<Uuid>);

/// The caller of the admin API.
#[derive(Debug, Clone)]
pub struct Principal {
    pub actor: Actor,
    pub user: Option<Uuid>,
    pub role: PlatformRole,
    pub memberships: Vec<MemberRow>,
    /// What a token is narrowed to.
    pub token: Option<TokenRow>,
    /// The digest of the session's cookie.
    pub session: Option<Vec<u8>>,
    pub must_change_password: bool,
}

impl Permission {
    pub const ALL: [Self; 15] = [
        Self::Open,
        Self::SignedIn,
        Self::ManageUsers,
        Self::ReadGlobal,
        Self::ManageGlobal,
        Self::ReadAudit,
        Self::ExportAudit,
        Self::ManageState,
        Self::CreateWorkspace,
        Self::SeeWorkspace,
        Self::ReadWorkspace,
        Self::ManageWorkspace,
        Self::OwnWorkspace,
        Self::ManageMembers,
        Self::ReadUsage,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::SignedIn => "signed_in",
            Self::ManageUsers => "users.manage",
            Self::ReadGlobal => "global.read",
            Self::ManageGlobal => "global.manage",
            Self::ReadAudit => "audit.read",
            Self::ExportAudit => "audit.export",
            Self::ManageState => "state.manage",
            Self::CreateWorkspace => "workspaces.create",
            Self::SeeWorkspace => "workspace.see",
            Self::ReadWorkspace => "workspace.read",
            Self::ManageWorkspace => "workspace.manage",
            Self::OwnWorkspace => "workspace.own",
            Self::ManageMembers => "members.manage",
            Self::ReadUsage => "usage.read",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// Whether it is about one workspace.
    pub const fn is_of_workspace(self) -> bool {
        self.in_workspace().is_some()
    }

    /// Whether its answers are narrowed to the workspaces of a token.
    const fn reaches_named_workspaces(self) -> bool {
        matches!(self, Self::Open | Self::SignedIn | Self::ReadGlobal) || self.is_of_workspace()
    }

    /// The lowest role in a workspace that has it; `None` for what is not about a workspace.
    const fn in_workspace(self) -> Option<WorkspaceRole> {
        match self {
            Self::SeeWorkspace | Self::ReadUsage => Some(WorkspaceRole::Viewer),
            Self::ReadWorkspace => Some(WorkspaceRole::Member),
            Self::ManageWorkspace | Self::ManageMembers => Some(WorkspaceRole::Admin),
            Self::OwnWorkspace => Some(WorkspaceRole::Owner),
            Self::Open
            | Self::SignedIn
            | Self::ManageUsers
            | Self::ReadGlobal
            | Self::ManageGlobal
            | Self::ReadAudit
            | Self::ExportAudit
            | Self::ManageState
            | Self::CreateWorkspace => None,
        }
    }

    /// The lowest role on the platform that has it.
    const fn on_platform(self) -> PlatformRole {
        match self {
            Self::ManageUsers | Self::ManageGlobal | Self::ReadAudit => PlatformRole::Admin,
            Self::ExportAudit | Self::ManageState => PlatformRole::Superadmin,
            _ => PlatformRole::Member,
        }
    }
}

impl Principal {
    /// Whoever has the token that the process was started with.
    pub fn operator() -> Self {
        let actor =
            Actor { kind: "operator", name: "SLUICE_ADMIN_TOKEN".to_owned(), ..Actor::default() };
        Self {
            actor,
            user: None,
            role: PlatformRole::Superadmin,
            memberships: Vec::new(),
            token: None,
            session: None,
            must_change_password: false,
        }
    }

    pub fn of_user(user: &UserRow, memberships: Vec<MemberRow>) -> Self {
        let actor = Actor {
            kind: "user",
            id: user.id.to_string(),
            name: user.email.clone(),
            ..Actor::default()
        };
        Self {
            actor,
            user: Some(user.id),
            role: user.role,
            memberships,
            token: None,
            session: None,
            must_change_password: user.must_change_password,
        }
    }

    #[must_use]
    pub fn with_token(mut self, token: TokenRow) -> Self {
        self.actor.kind = "admin_token";
        self.actor.name = format!("{} ({})", self.actor.name, token.name);
        self.actor.id = token.id.to_string();
        // Whoever has the token never saw the one-time password.
        self.must_change_password = false;
        self.token = Some(token);
        self
    }

    /// Whether they may do what needs `permission`, there if it is about a workspace.
    pub fn access(&self, permission: Permission, at: Option<Where>) -> Access {
        match at {
            None => self.access_to_platform(permission),
            Some(at) => self.access_to_workspace(permission, at),
        }
    }

    pub fn may(&self, permission: Permission, at: Option<Where>) -> bool {
        self.access(permission, at) == Access::Granted
    }

    fn access_to_platform(&self, permission: Permission) -> Access {
        let is_granted = permission.on_platform() <= self.role
            && self.token_has(permission)
            && (!self.is_narrowed() || permission.reaches_named_workspaces());
        if is_granted { Access::Granted } else { Access::Forbidden }
    }

    fn access_to_workspace(
        &self,
        permission: Permission,
        (workspace, environment): Where,
    ) -> Access {
        let is_narrowed = self.token.as_ref().and_then(|token| token.workspaces.as_ref());
        if is_narrowed.is_some_and(|list| !list.contains(&workspace)) {
            return Access::Hidden;
        }
        let Some(needed) = permission.in_workspace() else {
            return self.access_to_platform(permission);
        };
        if self.role == PlatformRole::Superadmin {
            return self.by_token(permission);
        }
        let Some(member) = self.membership(workspace) else { return Access::Hidden };
        if let Some(environments) = &member.environments {
            match environment {
                Some(environment) if !environments.contains(&environment) => {
                    return Access::Hidden;
                }
                // Who is narrowed to environments changes nothing of the workspace around them.
                None if WorkspaceRole::Member < needed => return Access::Forbidden,
                _ => {}
            }
        }
        if needed <= member.role { self.by_token(permission) } else { Access::Forbidden }
    }

    fn by_token(&self, permission: Permission) -> Access {
        if self.token_has(permission) { Access::Granted } else { Access::Forbidden }
    }

    fn token_has(&self, permission: Permission) -> bool {
        let list = self.token.as_ref().and_then(|token| token.permissions.as_ref());
        list.is_none_or(|list| {
            matches!(permission, Permission::Open | Permission::SignedIn)
                || list.iter().any(|name| name == permission.name())
        })
    }

    /// Whether a token is for some workspaces alone.
    fn is_narrowed(&self) -> bool {
        self.token.as_ref().is_some_and(|token| token.workspaces.is_some())
    }

    /// Whether they have everything that a role on the platform gives: nobody grants more.
    pub fn holds_platform(&self, role: PlatformRole) -> bool {
        let of_role = |it: &Permission| !it.is_of_workspace() && it.on_platform() <= role;
        Permission::ALL.into_iter().filter(of_role).all(|it| self.may(it, None))
    }

    /// Whether they have everything that a role in this workspace gives.
    pub fn holds_in(&self, workspace: Uuid, role: WorkspaceRole) -> bool {
        let of_role = |it: &Permission| it.in_workspace().is_some_and(|needed| needed <= role);
        let at = Some((workspace, None));
        Permission::ALL.into_iter().filter(of_role).all(|it| self.may(it, at))
    }

    pub fn membership(&self, workspace: Uuid) -> Option<&MemberRow> {
        self.memberships.iter().find(|member| member.workspace == workspace)
    }

    /// Their role in a workspace; a superadmin is as an owner everywhere.
    pub fn role_in(&self, workspace: Uuid) -> Option<WorkspaceRole> {
        if self.role == PlatformRole::Superadmin {
            return Some(WorkspaceRole::Owner);
        }
        self.membership(workspace).map(|member| member.role)
    }

    /// Whose usage they may see.
    pub fn usage_seen(&self) -> Visible {
        if PlatformRole::Admin <= self.role {
            return self.named_workspaces();
        }
        Some(self.extents(Permission::ReadUsage))
    }

    /// Where they may see the bodies of requests.
    pub fn payloads_seen(&self) -> Visible {
        if self.may(Permission::ManageState, None) {
            return self.named_workspaces();
        }
        Some(self.extents(Permission::ReadWorkspace))
    }

    /// Everything, or what a token is narrowed to.
    fn named_workspaces(&self) -> Visible {
        let narrowed = self.token.as_ref().and_then(|token| token.workspaces.as_ref());
        narrowed.map(|list| list.iter().copied().map(Extent::whole).collect())
    }

    /// Their workspaces with this permission, narrowed as they are there.
    fn extents(&self, permission: Permission) -> Vec<Extent> {
        let may = |it: &&MemberRow| self.may(permission, Some((it.workspace, None)));
        let extent = |it: &MemberRow| Extent {
            workspace: it.workspace,
            environments: it.environments.clone(),
        };
        self.memberships.iter().filter(may).map(extent).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(role: WorkspaceRole, environments: Option<Vec<Uuid>>) -> Principal {
        let user = Uuid::from_u128(9);
        Principal {
            role: PlatformRole::Member,
            memberships: vec![MemberRow {
                workspace: Uuid::from_u128(1),
                user,
                role,
                environments,
                version: 1,
                created_at: 0,
                created_by: String::new(),
            }],
            user: Some(user),
            ..Principal::operator()
        }
    }

    #[test]
    fn outsider_sees_nothing_whatever_is_asked() {
        let principal = member(WorkspaceRole::Owner, None);
        let foreign = Some((Uuid::from_u128(2), None));
        for permission in Permission::ALL.into_iter().filter(|it| it.in_workspace().is_some()) {
            assert_eq!(principal.access(permission, foreign), Access::Hidden, "{permission:?}");
        }
    }

    #[test]
    fn roles_of_a_workspace_are_a_ladder() {
        let own = Some((Uuid::from_u128(1), None));
        let granted = |role| {
            let principal = member(role, None);
            let may = |it: &Permission| it.in_workspace().is_some() && principal.may(*it, own);
            Permission::ALL.into_iter().filter(may).map(Permission::name).collect::<Vec<_>>()
        };
        assert_eq!(granted(WorkspaceRole::Viewer), ["workspace.see", "usage.read"]);
        assert_eq!(granted(WorkspaceRole::Member).len(), 3);
        assert_eq!(granted(WorkspaceRole::Admin).len(), 5);
        assert_eq!(granted(WorkspaceRole::Owner).len(), 6);
    }

    #[test]
    fn narrowed_admin_manages_its_environments_alone() {
        let [here, elsewhere] = [3, 4].map(Uuid::from_u128);
        let principal = member(WorkspaceRole::Admin, Some(vec![here]));
        let at = |environment| Some((Uuid::from_u128(1), environment));
        let access = |environment| principal.access(Permission::ManageWorkspace, at(environment));
        assert_eq!(access(Some(here)), Access::Granted);
        assert_eq!(access(Some(elsewhere)), Access::Hidden);
        assert_eq!(access(None), Access::Forbidden);
        assert!(principal.may(Permission::SeeWorkspace, at(None)));
    }

    #[test]
    fn token_has_no_more_than_its_list_and_its_user() {
        let mut principal = member(WorkspaceRole::Member, None);
        principal.token = Some(TokenRow {
            id: Uuid::nil(),
            user: Uuid::nil(),
            name: String::new(),
            hint: String::new(),
            permissions: Some(vec!["workspace.manage".to_owned(), "usage.read".to_owned()]),
            workspaces: None,
            expires_at: None,
            last_used_at: None,
            version: 1,
            created_at: 0,
            created_by: String::new(),
        });
        let own = Some((Uuid::from_u128(1), None));
        assert!(principal.may(Permission::ReadUsage, own));
        assert_eq!(principal.access(Permission::ReadWorkspace, own), Access::Forbidden);
        assert_eq!(principal.access(Permission::ManageWorkspace, own), Access::Forbidden);
        assert_eq!(principal.access(Permission::CreateWorkspace, None), Access::Forbidden);
    }
}
