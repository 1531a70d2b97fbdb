//! The rules, from what the providers document and what their answers look like.

use super::Sign::{Has, Member, Starts, Status, Word};
use super::{Rule, Sign};
use crate::provider::Provider;
use crate::route::failure::Reason;
use crate::route::failure::Reason::{
    Billing, ContentFilter, ContextLength, Credential, Fault, Overload, RateLimit,
};

const fn rule(statuses: &'static [u16], sign: Sign, reason: Reason) -> Rule {
    Rule { statuses, sign, reason }
}

/// Where nobody says otherwise: `OpenAI`'s codes, which most have copied, and Anthropic's.
pub(super) static COMMON: &[Rule] = &[
    rule(&[], Word("insufficient_quota"), Billing),
    rule(&[], Word("billing_hard_limit_reached"), Billing),
    rule(&[], Word("billing_not_active"), Billing),
    rule(&[], Word("billing_error"), Billing),
    rule(&[], Word("invalid_api_key"), Credential),
    rule(&[], Word("account_deactivated"), Credential),
    rule(&[], Word("authentication_error"), Credential),
    rule(&[], Word("context_length_exceeded"), ContextLength),
    rule(&[], Word("model_max_prompt_tokens_exceeded"), ContextLength),
    rule(&[], Word("content_filter"), ContentFilter),
    rule(&[], Word("content_policy_violation"), ContentFilter),
    rule(&[], Word("overloaded_error"), Overload),
    rule(TOO_LONG, Has("maximum context length"), ContextLength),
    rule(TOO_LONG, Has("context length"), ContextLength),
    rule(TOO_LONG, Has("context window"), ContextLength),
    rule(TOO_LONG, Has("prompt is too long"), ContextLength),
    rule(TOO_LONG, Has("input is too long"), ContextLength),
    rule(TOO_LONG, Has("input length"), ContextLength),
    rule(TOO_LONG, Has("exceeds the maximum number of tokens"), ContextLength),
    rule(TOO_LONG, Has("too many input tokens"), ContextLength),
    rule(TOO_LONG, Has("too large for model"), ContextLength),
    rule(&[400, 403, 422], Has("content management policy"), ContentFilter),
    rule(&[400, 403, 422], Has("content filter"), ContentFilter),
    rule(&[400, 403, 422], Has("content policy"), ContentFilter),
];

const TOO_LONG: &[u16] = &[400, 413, 422];

static ANTHROPIC: &[Rule] = &[
    rule(&[400, 403], Starts("Your credit balance is too low"), Billing),
    rule(&[400, 403], Starts("You have reached your specified API usage limits"), Billing),
    rule(&[400], Has("exceed context limit"), ContextLength),
    rule(&[400], Has("blocked by content filtering policy"), ContentFilter),
];

static AZURE: &[Rule] = &[
    rule(&[], Word("ResponsibleAIPolicyViolation"), ContentFilter),
    rule(&[429], Word("insufficient_quota"), Billing),
    rule(&[403], Word("SubscriptionIsDisabled"), Billing),
];

static GEMINI: &[Rule] = &[
    rule(&[], Word("API_KEY_INVALID"), Credential),
    rule(&[400], Starts("API key not valid"), Credential),
    rule(&[400], Starts("API key expired"), Credential),
    rule(&[400], Starts("User location is not supported"), Credential),
    rule(&[], Word("BILLING_DISABLED"), Billing),
    rule(&[429], Starts("Your prepayment credits are depleted"), Billing),
    rule(&[503], Word("UNAVAILABLE"), Overload),
];

static BEDROCK: &[Rule] = &[
    rule(&[], Word("UnrecognizedClientException"), Credential),
    rule(&[], Word("InvalidSignatureException"), Credential),
    rule(&[], Word("IncompleteSignature"), Credential),
    rule(&[], Word("ExpiredTokenException"), Credential),
    rule(&[], Word("ExpiredToken"), Credential),
    rule(&[], Word("ThrottlingException"), RateLimit),
    rule(&[], Word("ServiceQuotaExceededException"), RateLimit),
    rule(&[], Word("ModelNotReadyException"), Overload),
    rule(&[], Word("ServiceUnavailableException"), Overload),
    rule(&[], Word("ModelErrorException"), Fault),
    rule(&[], Word("ModelTimeoutException"), Fault),
    rule(&[], Word("ModelStreamErrorException"), Fault),
    rule(&[], Word("InternalServerException"), Fault),
];

static COHERE: &[Rule] = &[
    rule(&[498], Status, ContentFilter),
    rule(&[400, 422], Has("too many tokens"), ContextLength),
];

static DASHSCOPE: &[Rule] = &[
    rule(&[], Word("Arrearage"), Billing),
    rule(&[], Word("DataInspectionFailed"), ContentFilter),
    rule(&[], Word("data_inspection_failed"), ContentFilter),
];

static MOONSHOT: &[Rule] = &[
    rule(&[], Word("exceeded_current_quota_error"), Billing),
    rule(&[], Word("engine_overloaded_error"), Overload),
];

static OPENROUTER: &[Rule] = &[
    // What a caller wrote was flagged: the account is as good as before.
    rule(&[403], Member("flagged_input"), ContentFilter),
];

static TOGETHER: &[Rule] =
    &[rule(&[422], Has("`inputs` tokens + `max_new_tokens`"), ContextLength)];

static VOLCENGINE: &[Rule] = &[
    rule(&[], Word("AccountOverdueError"), Billing),
    rule(&[], Word("SensitiveContentDetected"), ContentFilter),
];

static XAI: &[Rule] = &[
    rule(&[400], Starts("Incorrect API key provided"), Credential),
    rule(&[403], Starts("Content violates usage guidelines"), ContentFilter),
];

static ZAI: &[Rule] = &[
    rule(&[], Word("1113"), Billing),
    rule(&[], Word("1261"), ContextLength),
    rule(&[], Word("1301"), ContentFilter),
];

/// The tables of those who differ.
#[cfg(test)]
pub(super) const PROVIDERS: [&str; 14] = [
    "anthropic",
    "azure_openai",
    "bedrock",
    "cohere",
    "dashscope",
    "gemini",
    "gemini_openai",
    "moonshot",
    "openrouter",
    "together",
    "vertex",
    "volcengine",
    "xai",
    "zai",
];

/// A provider's own rules, which come before the common ones.
pub(super) fn of_provider(provider: Provider) -> &'static [Rule] {
    match provider {
        Provider::Anthropic => ANTHROPIC,
        Provider::AzureOpenAi => AZURE,
        Provider::Gemini | Provider::Vertex => GEMINI,
        Provider::Bedrock => BEDROCK,
        Provider::Cohere => COHERE,
        Provider::OpenAi | Provider::Simulated => &[],
        Provider::Compatible(preset) => match preset.name {
            "dashscope" => DASHSCOPE,
            "gemini_openai" => GEMINI,
            "moonshot" => MOONSHOT,
            "openrouter" => OPENROUTER,
            "together" => TOGETHER,
            "volcengine" => VOLCENGINE,
            "xai" => XAI,
            "zai" => ZAI,
            _ => &[],
        },
    }
}
