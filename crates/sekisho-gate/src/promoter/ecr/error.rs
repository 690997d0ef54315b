//! Why there is no password, and what to do about it.

use std::time::Duration;

/// Why there is no password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EcrError {
    /// No such region.
    #[error("`{0}` is no region of AWS: name one such as `eu-central-1`")]
    Region(String),
    /// Not an address that signed requests may go to.
    #[error(
        "`{0}` is no endpoint of ECR: name an address with `https://`, or `http://` on this machine, and nothing \
         behind its path"
    )]
    Endpoint(String),
    /// Keys that live until somebody remembers them.
    #[error(
        "the environment names static keys (`{0}`): give the process a role (EKS Pod Identity, IRSA) \
         and take the variable away"
    )]
    StaticKeys(&'static str),
    /// Half of an identity: without the other one, the machine's own would be taken.
    #[error("`{named}` is set and `{lacks}` is not: set both, or neither")]
    Half {
        /// What is set.
        named: &'static str,
        /// What belongs to it.
        lacks: &'static str,
    },
    /// A client cannot be made.
    #[error("making the client of ECR: {0}")]
    Client(String),
    /// Nobody gives this process credentials.
    #[error(
        "no credentials of AWS for this process: {0}; give its service account a role (EKS Pod Identity, IRSA), or \
         the machine one"
    )]
    Credentials(String),
    /// The request failed.
    #[error("asking `{endpoint}` for the password of ECR: {problem}")]
    Asking {
        /// Who was asked.
        endpoint: String,
        /// Why.
        problem: Problem,
    },
}

/// What went wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    /// The role may not.
    #[error("{0}; give the role `ecr:GetAuthorizationToken` on `*`")]
    Denied(String),
    /// Not now.
    #[error("it is busy or broken ({status} {kind}) and stayed so; try again later")]
    Busy {
        /// Of HTTP.
        status: u16,
        /// AWS's name of the error.
        kind: String,
    },
    /// Not at all.
    #[error(
        "it refuses the request ({status} {kind}); look at the role, the region, the endpoint and this machine's clock"
    )]
    Refused {
        /// Of HTTP.
        status: u16,
        /// AWS's name of the error.
        kind: String,
    },
    /// No connection, or one that broke.
    #[error("{0}; look at the network policy, the proxy and the VPC endpoint")]
    Unreachable(String),
    /// Silence.
    #[error("no answer within {} seconds; try again later", .0.as_secs())]
    Late(Duration),
    /// It was never sent.
    #[error("the request cannot be signed: {0}; look at who gives this process its credentials")]
    Unsigned(&'static str),
    /// Not an answer of ECR.
    #[error("its answer is not ECR's: {0}; look at the endpoint")]
    Unreadable(String),
}

impl Problem {
    /// Whether the same request may go better.
    pub(super) fn is_temporary(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Unreachable(_) | Self::Late(_))
    }
}

impl EcrError {
    /// Whether it may go better later, with nobody having done anything.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            // Of a pod's agent or a machine's metadata, which were asked more than once.
            Self::Credentials(_) => true,
            Self::Asking { problem, .. } => problem.is_temporary(),
            _ => false,
        }
    }
}
