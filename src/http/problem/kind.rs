//! The kinds of refusal: the type, status and title of each, and where a client can meet it.

use actix_web::http::StatusCode;

use super::super::routes::Route;

/// The kinds of refusal. `urn:systole:problem:` and [`Kind::slug`] make the `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Kind {
    /// The head of a connection's first request did not arrive within `head_deadline`.
    HeadTimeout,
    /// A head of more than [`MAX_HEAD_BYTES`](super::super::connection::MAX_HEAD_BYTES).
    HeadTooLarge,
    /// No such path.
    NotFound,
    /// The path exists, not for this method; `Allow` names those it has.
    MethodNotAllowed,
    /// No token that is good for anything: none, or none of ours, or unknown, wrong, expired, revoked. Which is not said.
    Unauthorized,
    /// A good token, for something else.
    MissingScope,
    /// No record of the body is of a user that the token may write, or strictness was asked for and not all are; `rejected`
    /// lists those that are not. None was kept.
    ForbiddenUser,
    /// Another site had a browser send it.
    CrossSite,
    /// Who may come in is not known at this moment: not read yet, or erased.
    TokensUnavailable,
    /// A path or a parameter that is not understood; `detail` names it.
    InvalidParameter,
    /// A cursor that this server did not give for this question.
    InvalidCursor,
    /// No format that `Accept` asks for; `detail` lists those that there are.
    NotAcceptable,
    /// A content type that is neither JSON nor NDJSON.
    UnsupportedMediaType,
    /// A content encoding that is none of gzip, zstd, identity.
    UnsupportedEncoding,
    /// More bytes than `max_body`, or more than `max_inflated_body` once inflated.
    BodyTooLarge,
    /// More records than `max_bulk`.
    TooManyHeartbeats,
    /// More heartbeats of one user than its burst can ever hold.
    ExceedsBurst,
    /// More than a partition of the buffer may hold when it is empty.
    ExceedsBuffer,
    /// The body did not arrive within `body_deadline`.
    BodyTimeout,
    /// The body ended early or its transfer coding is broken.
    BodyIncomplete,
    /// The gzip or zstd stream is damaged, cut short or followed by garbage.
    MalformedEncoding,
    /// The body as a whole is no JSON.
    MalformedBody,
    /// There is no record in the body. Not 202: a client that sends nothing has most likely lost something on the way,
    /// and an answer that says "accepted" would hide it.
    Empty,
    /// No record of the body can be kept; `rejected` lists them.
    NoneAccepted,
    /// `Prefer: handling=strict`, and not all records are good; `rejected` lists those that are not. None was kept.
    StrictRefused,
    /// Too many requests from one address, or too many heartbeats of a user. None was kept.
    RateLimited,
    /// The byte budget, or every place of a read, is in use.
    Overloaded,
    /// Files of the dataset cannot be read.
    FilesUnreadable,
    /// The buffer has no room until the batchers have drained it.
    BufferFull,
    /// The buffer did not answer in time: whether it holds the heartbeats is unknown.
    BufferTimeout,
    /// The buffer cannot be reached.
    BufferUnreachable,
    /// The buffer's server refuses for the moment.
    BufferRefused,
    /// Fewer replicas than configured confirmed.
    TooFewReplicas,
    /// The buffer belongs to no dataset yet, or was erased.
    BufferNotRegistered,
    /// The buffer belongs to another dataset.
    ForeignBuffer,
    /// The buffer cannot be used for a reason that needs a person.
    BufferUnusable,
    /// A fault of Systole itself. The last of them, by which a test knows that [`Kind::ALL`] is whole.
    Internal,
}

impl Kind {
    /// Every kind.
    pub(in crate::http) const ALL: [Self; 37] = [
        Self::HeadTimeout,
        Self::HeadTooLarge,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Unauthorized,
        Self::MissingScope,
        Self::ForbiddenUser,
        Self::CrossSite,
        Self::TokensUnavailable,
        Self::InvalidParameter,
        Self::InvalidCursor,
        Self::NotAcceptable,
        Self::UnsupportedMediaType,
        Self::UnsupportedEncoding,
        Self::BodyTooLarge,
        Self::TooManyHeartbeats,
        Self::ExceedsBurst,
        Self::ExceedsBuffer,
        Self::BodyTimeout,
        Self::BodyIncomplete,
        Self::MalformedEncoding,
        Self::MalformedBody,
        Self::Empty,
        Self::NoneAccepted,
        Self::StrictRefused,
        Self::RateLimited,
        Self::Overloaded,
        Self::FilesUnreadable,
        Self::BufferFull,
        Self::BufferTimeout,
        Self::BufferUnreachable,
        Self::BufferRefused,
        Self::TooFewReplicas,
        Self::BufferNotRegistered,
        Self::ForeignBuffer,
        Self::BufferUnusable,
        Self::Internal,
    ];

    /// The end of the `type`, the status, the title.
    pub(super) const fn about(self) -> (&'static str, StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::HeadTimeout => ("head-timeout", S::REQUEST_TIMEOUT, "Head came too slowly"),
            Self::HeadTooLarge => ("head-too-large", S::REQUEST_HEADER_FIELDS_TOO_LARGE, "Head too large"),
            Self::NotFound => ("not-found", S::NOT_FOUND, "No such path"),
            Self::MethodNotAllowed => ("method-not-allowed", S::METHOD_NOT_ALLOWED, "Method not allowed here"),
            Self::Unauthorized => ("unauthorized", S::UNAUTHORIZED, "A valid token is needed"),
            Self::MissingScope => ("missing-scope", S::FORBIDDEN, "The token is not for this"),
            Self::ForbiddenUser => ("forbidden-user", S::FORBIDDEN, "The token is not for these users"),
            Self::CrossSite => ("cross-site", S::FORBIDDEN, "Another site sent it"),
            Self::TokensUnavailable => ("tokens-unavailable", S::SERVICE_UNAVAILABLE, "Tokens not known"),
            Self::InvalidParameter => ("invalid-parameter", S::UNPROCESSABLE_ENTITY, "Parameter not understood"),
            Self::InvalidCursor => ("invalid-cursor", S::UNPROCESSABLE_ENTITY, "Cursor of something else"),
            Self::NotAcceptable => ("not-acceptable", S::NOT_ACCEPTABLE, "No such format"),
            Self::UnsupportedMediaType => {
                ("unsupported-media-type", S::UNSUPPORTED_MEDIA_TYPE, "Content type not supported")
            }
            Self::UnsupportedEncoding => {
                ("unsupported-encoding", S::UNSUPPORTED_MEDIA_TYPE, "Content encoding not supported")
            }
            Self::BodyTooLarge => ("body-too-large", S::PAYLOAD_TOO_LARGE, "Body too large"),
            Self::TooManyHeartbeats => {
                ("too-many-heartbeats", S::PAYLOAD_TOO_LARGE, "Too many heartbeats in one request")
            }
            Self::ExceedsBurst => ("exceeds-burst", S::PAYLOAD_TOO_LARGE, "More than the rate limit can ever hold"),
            Self::ExceedsBuffer => ("exceeds-buffer", S::PAYLOAD_TOO_LARGE, "More than the buffer can ever hold"),
            Self::BodyTimeout => ("body-timeout", S::REQUEST_TIMEOUT, "Body came too slowly"),
            Self::BodyIncomplete => ("body-incomplete", S::BAD_REQUEST, "Body incomplete"),
            Self::MalformedEncoding => ("malformed-encoding", S::BAD_REQUEST, "Compressed body is damaged"),
            Self::MalformedBody => ("malformed-body", S::BAD_REQUEST, "Body is not valid JSON"),
            Self::Empty => ("empty", S::UNPROCESSABLE_ENTITY, "No heartbeat in the body"),
            Self::NoneAccepted => ("none-accepted", S::UNPROCESSABLE_ENTITY, "No heartbeat can be accepted"),
            Self::StrictRefused => ("strict-refused", S::UNPROCESSABLE_ENTITY, "Not every heartbeat is valid"),
            Self::RateLimited => ("rate-limited", S::TOO_MANY_REQUESTS, "Rate limit exceeded"),
            Self::Overloaded => ("overloaded", S::SERVICE_UNAVAILABLE, "Too much under way"),
            Self::FilesUnreadable => ("files-unreadable", S::SERVICE_UNAVAILABLE, "Files not readable"),
            Self::BufferFull => ("buffer-full", S::SERVICE_UNAVAILABLE, "Buffer full"),
            Self::BufferTimeout => ("buffer-timeout", S::SERVICE_UNAVAILABLE, "Buffer too slow"),
            Self::BufferUnreachable => ("buffer-unreachable", S::SERVICE_UNAVAILABLE, "Buffer out of reach"),
            Self::BufferRefused => ("buffer-refused", S::SERVICE_UNAVAILABLE, "Buffer refuses for the moment"),
            Self::TooFewReplicas => ("too-few-replicas", S::SERVICE_UNAVAILABLE, "Too few replicas confirmed"),
            Self::BufferNotRegistered => ("buffer-not-registered", S::SERVICE_UNAVAILABLE, "Buffer not registered"),
            Self::ForeignBuffer => ("foreign-buffer", S::SERVICE_UNAVAILABLE, "Buffer of another dataset"),
            Self::BufferUnusable => ("buffer-unusable", S::SERVICE_UNAVAILABLE, "Buffer not usable"),
            Self::Internal => ("internal", S::INTERNAL_SERVER_ERROR, "Fault of the server"),
        }
    }

    pub(in crate::http) const fn slug(self) -> &'static str {
        self.about().0
    }

    pub(in crate::http) const fn status(self) -> StatusCode {
        self.about().1
    }

    /// Whether it is for the sake of Systole, and not for anything that the client did.
    pub(in crate::http) fn is_our_own(self) -> bool {
        self.status().is_server_error()
    }

    pub(in crate::http) const fn title(self) -> &'static str {
        self.about().2
    }

    /// Whether somebody who asks for `route`, by a method that it has, can be answered this.
    pub(in crate::http) const fn meets(self, route: Route) -> bool {
        match self {
            Self::HeadTimeout | Self::HeadTooLarge => !matches!(route, Route::Other),
            Self::NotFound => matches!(route, Route::PageFile | Route::Other),
            // By no method that the route has.
            Self::MethodNotAllowed => false,
            Self::Internal => {
                matches!(route, Route::Heartbeats | Route::UserHeartbeats | Route::Metrics | Route::OpenApi)
            }
            Self::Unauthorized | Self::MissingScope | Self::TokensUnavailable => {
                matches!(
                    route,
                    Route::Heartbeats
                        | Route::UserHeartbeats
                        | Route::UserDevices
                        | Route::Silent
                        | Route::Metrics
                        | Route::Status
                        | Route::History
                        | Route::Login
                )
            }
            Self::CrossSite => matches!(route, Route::Logout) || Self::Unauthorized.meets(route),
            Self::NotAcceptable | Self::FilesUnreadable => matches!(route, Route::UserHeartbeats),
            Self::InvalidParameter | Self::InvalidCursor => {
                matches!(route, Route::UserHeartbeats | Route::UserDevices | Route::Silent)
            }
            Self::UnsupportedMediaType
            | Self::BodyTooLarge
            | Self::BodyTimeout
            | Self::BodyIncomplete
            | Self::MalformedBody => matches!(route, Route::Heartbeats | Route::Login),
            Self::RateLimited => {
                matches!(
                    route,
                    Route::Heartbeats
                        | Route::UserHeartbeats
                        | Route::UserDevices
                        | Route::Silent
                        | Route::Status
                        | Route::History
                        | Route::Login
                )
            }
            Self::Overloaded => {
                matches!(
                    route,
                    Route::Heartbeats
                        | Route::UserHeartbeats
                        | Route::UserDevices
                        | Route::Silent
                        | Route::Status
                        | Route::Login
                )
            }
            Self::ForbiddenUser
            | Self::BufferTimeout
            | Self::BufferUnreachable
            | Self::BufferRefused
            | Self::BufferNotRegistered
            | Self::ForeignBuffer
            | Self::BufferUnusable => {
                matches!(route, Route::Heartbeats | Route::UserHeartbeats | Route::UserDevices | Route::Silent)
            }
            Self::UnsupportedEncoding
            | Self::TooManyHeartbeats
            | Self::ExceedsBurst
            | Self::ExceedsBuffer
            | Self::MalformedEncoding
            | Self::Empty
            | Self::NoneAccepted
            | Self::StrictRefused
            | Self::BufferFull
            | Self::TooFewReplicas => matches!(route, Route::Heartbeats),
        }
    }

    /// Whether the answer is made before there is a request, and so without an id of one.
    pub(in crate::http) const fn is_bare(self) -> bool {
        matches!(self, Self::HeadTimeout | Self::HeadTooLarge)
    }

    /// Whether the answer says when the same is to be sent again.
    pub(in crate::http) const fn has_retry_after(self) -> bool {
        // How long a limit lasts, the limit knows.
        self.retry_after_s().is_some() || matches!(self, Self::RateLimited)
    }

    /// The shortest time in seconds after which trying again makes sense; none where only the client can mend it.
    ///
    /// Longer where the cause drains slowly or needs a person.
    pub(super) const fn retry_after_s(self) -> Option<u64> {
        match self {
            Self::Overloaded | Self::BufferTimeout | Self::BufferRefused | Self::TooFewReplicas => Some(1),
            Self::BufferUnreachable | Self::BufferFull | Self::TokensUnavailable | Self::FilesUnreadable => Some(5),
            Self::BufferNotRegistered | Self::ForeignBuffer | Self::BufferUnusable => Some(15),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_listed_and_has_a_type_of_its_own() {
        assert!(Kind::ALL.iter().enumerate().all(|(at, &kind)| at == kind as usize));
        assert_eq!(Kind::ALL.last(), Some(&Kind::Internal));
        let slugs: std::collections::BTreeSet<&str> = Kind::ALL.into_iter().map(Kind::slug).collect();
        assert_eq!(slugs.len(), Kind::ALL.len());
    }
}
