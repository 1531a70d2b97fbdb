//! Known providers that copied `OpenAI`'s chat, and how each differs from it.

use crate::translate::Quirks;
use crate::translate::quirks::EffortField;

/// A known `OpenAI`-compatible provider.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Preset {
    pub name: &'static str,
    pub base_url: Option<&'static str>,
    pub quirks: Quirks,
}

const fn preset(name: &'static str, base_url: &'static str, quirks: Quirks) -> Preset {
    Preset { name, base_url: Some(base_url), quirks }
}

const COMMON: Quirks = Quirks::COMPATIBLE;
/// Close to `OpenAI`, without roles of developers.
const CLOSE: Quirks = Quirks { takes_developer: false, ..Quirks::OPENAI };
/// Thoughts come in `reasoning_content`, and go back there.
const THOUGHTFUL: Quirks = Quirks { thoughts: Some("reasoning_content"), ..COMMON };
const SWITCHED: Quirks = Quirks { effort: EffortField::Thinking, ..THOUGHTFUL };
const QWEN: Quirks = Quirks { effort: EffortField::EnableThinking, ..COMMON };

const DEEPSEEK: Quirks = Quirks {
    takes_json_schema: false,
    takes_top_k: false,
    takes_seed: false,
    takes_parallel_tool_calls: false,
    ..SWITCHED
};
const MISTRAL: Quirks = Quirks {
    // Usage comes anyhow, and fields that are not known are refused.
    takes_stream_options: false,
    takes_top_k: false,
    takes_seed: false,
    effort: EffortField::Absent,
    required_choice: "any",
    ..COMMON
};
const OPENROUTER: Quirks = Quirks {
    effort: EffortField::Nested,
    thoughts: Some("reasoning"),
    takes_cache_control: true,
    ..COMMON
};
const PERPLEXITY: Quirks = Quirks { takes_seed: false, takes_parallel_tool_calls: false, ..COMMON };
const XAI: Quirks = Quirks { takes_penalties: false, ..CLOSE };

pub(super) static PRESETS: [Preset; 44] = [
    Preset { name: "openai_compatible", base_url: None, quirks: COMMON },
    preset("ai21", "https://api.ai21.com/studio/v1", COMMON),
    preset("baseten", "https://inference.baseten.co/v1", COMMON),
    preset("cerebras", "https://api.cerebras.ai/v1", CLOSE),
    preset("chutes", "https://llm.chutes.ai/v1", COMMON),
    preset("dashscope", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", QWEN),
    preset("deepinfra", "https://api.deepinfra.com/v1/openai", COMMON),
    preset("deepseek", "https://api.deepseek.com/v1", DEEPSEEK),
    preset("featherless", "https://api.featherless.ai/v1", COMMON),
    preset("fireworks", "https://api.fireworks.ai/inference/v1", THOUGHTFUL),
    preset("friendli", "https://api.friendli.ai/serverless/v1", COMMON),
    preset("gemini_openai", "https://generativelanguage.googleapis.com/v1beta/openai", CLOSE),
    preset("github_models", "https://models.github.ai/inference", CLOSE),
    preset("groq", "https://api.groq.com/openai/v1", CLOSE),
    preset("huggingface", "https://router.huggingface.co/v1", COMMON),
    preset("hyperbolic", "https://api.hyperbolic.xyz/v1", COMMON),
    preset("inception", "https://api.inceptionlabs.ai/v1", COMMON),
    preset("inference_net", "https://api.inference.net/v1", COMMON),
    preset("lambda", "https://api.lambda.ai/v1", COMMON),
    preset("minimax", "https://api.minimax.io/v1", COMMON),
    preset("mistral", "https://api.mistral.ai/v1", MISTRAL),
    preset("moonshot", "https://api.moonshot.ai/v1", THOUGHTFUL),
    preset("nebius", "https://api.studio.nebius.com/v1", COMMON),
    preset("novita", "https://api.novita.ai/openai/v1", COMMON),
    preset("nvidia", "https://integrate.api.nvidia.com/v1", COMMON),
    preset("openrouter", "https://openrouter.ai/api/v1", OPENROUTER),
    preset("ovhcloud", "https://oai.endpoints.kepler.ai.cloud.ovh.net/v1", COMMON),
    preset("perplexity", "https://api.perplexity.ai", PERPLEXITY),
    preset("sambanova", "https://api.sambanova.ai/v1", COMMON),
    preset("scaleway", "https://api.scaleway.ai/v1", COMMON),
    preset("siliconflow", "https://api.siliconflow.com/v1", QWEN),
    preset("stepfun", "https://api.stepfun.com/v1", COMMON),
    preset("together", "https://api.together.xyz/v1", COMMON),
    preset("upstage", "https://api.upstage.ai/v1", COMMON),
    preset("vercel", "https://ai-gateway.vercel.sh/v1", CLOSE),
    preset("volcengine", "https://ark.cn-beijing.volces.com/api/v3", SWITCHED),
    preset("writer", "https://api.writer.com/v1", COMMON),
    preset("xai", "https://api.x.ai/v1", XAI),
    preset("zai", "https://api.z.ai/api/paas/v4", SWITCHED),
    preset("vllm", "http://127.0.0.1:8000/v1", COMMON),
    preset("sglang", "http://127.0.0.1:30000/v1", COMMON),
    preset("ollama", "http://127.0.0.1:11434/v1", COMMON),
    preset("lm_studio", "http://127.0.0.1:1234/v1", COMMON),
    preset("llama_cpp", "http://127.0.0.1:8080/v1", COMMON),
];
