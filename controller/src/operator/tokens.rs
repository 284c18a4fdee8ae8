// SPDX-License-Identifier: Apache-2.0
//! TokenService.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tonic::{Request, Response, Status};
use windlass_proto::refusal::{Reason, Refusal};
use windlass_proto::v1;
use windlass_proto::v1::token_service_server::TokenService;
use windlass_types::event::EventKind;
use windlass_types::name::NodeName;

use super::{bad, internal};
use crate::caller::Caller;
use crate::change::Wish;
use crate::server::Controller;
use crate::tokens::{DEFAULT_LIFE, LONGEST_LIFE, TokenError, TokenRecord};

/// The calls.
#[derive(Debug)]
pub struct TokenApi(pub Arc<Controller>);

#[tonic::async_trait]
impl TokenService for TokenApi {
    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let caller = Caller::of(&request);
        let message = request.into_inner();
        let node = NodeName::new(message.node).map_err(|error| bad(&error))?;
        let arguments = json!({ "ttl_seconds": message.ttl_seconds });
        let wish = Wish { caller: &caller, verb: "token create", object: format!("node/{node}"), arguments };
        let (token, record) = self.0.changes.run(wish, self.create(&caller, node, message.ttl_seconds)).await?;
        let text = format!("{caller} made a join token for {}", record.node);
        self.0.events.emit(EventKind::TokenCreated, Some(&record.node), None, text);
        Ok(Response::new(v1::CreateTokenResponse {
            node: record.node.to_string(),
            token: token.reveal(),
            ca_pins: self.0.trust.authority().pins().iter().map(ToString::to_string).collect(),
            expires_unix_millis: record.expires.0,
            join_endpoint: self.0.join_endpoint.clone(),
            id: record.id,
        }))
    }

    async fn list_tokens(
        &self,
        _request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        let records = self.0.tokens.list().await.map_err(|error| internal(&error))?;
        let tokens = records.into_iter().map(|record| self.on_wire(record)).collect();
        Ok(Response::new(v1::ListTokensResponse { tokens }))
    }

    async fn delete_token(
        &self,
        request: Request<v1::DeleteTokenRequest>,
    ) -> Result<Response<v1::DeleteTokenResponse>, Status> {
        let caller = Caller::of(&request);
        let id: String = request.into_inner().id.chars().filter(char::is_ascii_hexdigit).take(64).collect();
        let wish = Wish { caller: &caller, verb: "token delete", object: format!("token/{id}"), arguments: json!({}) };
        let work = async {
            self.0.tokens.delete(&id).await.map_err(|error| match error {
                TokenError::NotFound(_) => {
                    Refusal::new(Reason::NotFound, error.to_string()).advise("`windlass get tokens` lists them")
                }
                TokenError::Store(_) | TokenError::Record { .. } | TokenError::Randomness => internal(&error),
            })
        };
        let node = self.0.changes.run_urgent(wish, work).await?;
        self.0.events.emit(EventKind::TokenDeleted, Some(&node), None, format!("{caller} deleted a token of {node}"));
        Ok(Response::new(v1::DeleteTokenResponse {}))
    }
}

impl TokenApi {
    async fn create(
        &self,
        caller: &Caller,
        node: NodeName,
        ttl_seconds: u64,
    ) -> Result<(crate::tokens::Token, TokenRecord), Refusal> {
        self.0.fleet.require_free(&node)?;
        let life = match ttl_seconds {
            0 => DEFAULT_LIFE,
            seconds => Duration::from_secs(seconds),
        };
        if life > LONGEST_LIFE {
            return Err(Refusal::new(Reason::BadRequest, "a token lives 7 days at most").advise("give a shorter --ttl"));
        }
        self.0.tokens.create(node, life, caller.to_string()).await.map_err(|error| match error {
            TokenError::Store(error) => crate::join::store(&error),
            TokenError::Record { .. } | TokenError::Randomness | TokenError::NotFound(_) => internal(&error),
        })
    }

    fn on_wire(&self, record: TokenRecord) -> v1::Token {
        let state = if record.used.is_some() {
            v1::TokenState::Used
        } else if record.expires <= self.0.clock.now() {
            v1::TokenState::Expired
        } else {
            v1::TokenState::Unused
        };
        v1::Token {
            id: record.id,
            node: record.node.to_string(),
            state: state.into(),
            expires_unix_millis: record.expires.0,
            created_by: record.created_by,
            attempts: record.attempts,
        }
    }
}
