"""Texts of moderation, and texts that only resemble them. The decisive part of each is real; we made up the rest."""

import re

import pytest
from test_classification import TEXTS, WRAPPINGS

from reactor.errors import ContentPolicyError
from reactor.providers import failure_texts
from reactor.providers.failure_texts import MOST_READ, classify_text

REFUSALS = {
    "OpenAI: gpt-image, Sora": [
        "Your request was rejected by the safety system. If this is an error, tell us. safety_violations=[sexual].",
        "400 moderation_blocked",
        "safety_violations=[violence]",
        "Error code: 400 - {'code': 'content_policy_violation', 'message': 'rejected'}",
        "code: content_policy_violation",
        "Your input image may contain content that is not allowed by our safety system.",
        "Your prompt may contain text that is not allowed by our safety system.",
        "We're so sorry, but the prompt may violate our guardrails around nudity, sexuality, or erotic content.",
        "This content may violate our guardrails concerning similarity to third-party content.",
    ],
    "Azure OpenAI, GitHub, litellm": [
        "The response was filtered due to the prompt triggering our content management policy. Please retry.",
        "litellm.BadRequestError: AzureException ContentPolicyViolationError - content_filter",
        "ResponsibleAIPolicyViolation: the request was refused",
        "finish_reason: content_filter",
        "Sorry, the response was filtered by the Responsible AI Service.",
    ],
    "Imagen, Veo, Google Flow": [
        "The prompt contains words that violate Google's Responsible AI practices",
        "The prompt could not be submitted. It contains sensitive words. Support codes: 58061214",
        "All images were filtered out because they violated Vertex AI's usage guidelines. Support codes: 393",
        "The response is blocked, as it may violate our policies. Please tell your account team.",
        "Image generation was blocked: the prompt depicts a celebrity",
        "Request contains an invalid argument. reason: PUBLIC_ERROR_UNSAFE_GENERATION",
    ],
    "Gemini, nano-banana": [
        "No image: finishReason PROHIBITED_CONTENT",
        "finish_reason: IMAGE_SAFETY",
        "FinishReason.IMAGE_PROHIBITED_CONTENT",
        "candidates ended with IMAGE_RECITATION",
        "promptFeedback: blockReason: SAFETY",
        "Response was blocked due to SAFETY",
        "I'm unable to create images that could be misused in this way.",
        "I'm sorry, but I can't help with that request.",
        "I can't generate that image.",
        "The generated image was blocked due to safety policy violation",
        "Image generation blocked by gemini safety filters (reason(s): OTHER).",
    ],
    "Stability": [
        "Your request was flagged by our content moderation system, and you were not charged.",
        "Invalid prompts detected",
        "finish_reason: CONTENT_FILTERED",
    ],
    "Black Forest Labs' own API": [
        "Request Moderated",
        "bfl_content_moderated",
    ],
    "Volcengine: Seedream": [
        "OutputImageSensitiveContentDetected: the output image may contain sensitive information",
        "InputTextSensitiveContentDetected.PolicyViolation",
        "InputTextRiskDetection",
    ],
    "Tencent: Hunyuan": [
        "OperationDenied.TextIllegalDetected",
        "OperationDenied.ImageIllegalDetected",
    ],
    "fal and its resellers": [
        "The content could not be processed because it contained material flagged by a content checker.",
    ],
    "Kling": [
        "Failure to pass the risk control system",
    ],
    "MiniMax: Hailuo": [
        "input new_sensitive (1026)",
        "output new_sensitive",
        "input new_sensitive, input text sensitive",
    ],
    "Alibaba: Wan, Qwen": [
        "Output data may contain inappropriate content.",
        "Input data is suspected of being involved in IP infringement.",
    ],
    "Luma": [
        "Generation failed: Advanced moderation failed",
    ],
    "Runway": [
        "SAFETY.INPUT.TEXT",
        "INPUT_PREPROCESSING.SAFETY.TEXT",
        "Text did not pass content moderation",
    ],
    "Bedrock: Titan, Nova": [
        "This request has been blocked by our content filters.",
        "The prompt conflicts with AWS Responsible AI Policy",
    ],
    "xAI: Grok": [
        "Generated image rejected by content moderation.",
        "Image did not respect moderation rules; base64 is not available.",
    ],
    "Ideogram, and pipelines with a safety checker": [
        "Image blocked by safety filter",
        "Image generation failed: the prompt failed the safety check",
        "The generated image did not pass the safety checker. Please try again.",
    ],
    "Leonardo, Bria, Recraft and resellers": [
        "Prompt rejected by content moderation",
        "The prompt was blocked.",
        "Content moderation check failed for prompt: violates content guidelines",
        "Unsafe content detected in the generated image",
        "Potential NSFW content was detected in one or more images. A black image will be returned instead.",
        "NSFW_CONTENT",
        "error: NSFW_CONTENT_DETECTED",
        "hasNSFWContent: true",
        "isNsfw",
        "Sexual content detected",
        "Nudity detected in output",
        "Your prompt violates our community guidelines",
        "Prompt blocked due to security configurations",
        "Response blocked due to security configurations",
    ],
    "Midjourney and its proxies": [
        "Sorry! Our AI moderators feel your prompt might be against our community standards.",
        "Banned prompt detected",
        'word "transparent" is banned in prompts: prompt not allowed',
    ],
    "in Chinese: MiniMax, Kling, Seedream": [
        "内容涉及敏感信息",
        "您的提示词违规",
        "輸出圖片未通過內容審核",
        "审核不通过",
    ],
    "others": [
        "Content was flagged by the safety system. Try different prompts or inputs.",
        "The request failed because the output video may be related to copyright restrictions. Request id: 02176",
        "Content flagged for: sexual",
        "Content flagged for: politics",
        "ContentModerationError: no",
        "upstream 400: content_policy_violation",
        "The request contains prohibited content",
        "Prompt contains inappropriate language",
        "Copyrighted material detected",
        "Image contains explicit content",
        "the model refused: harmful content",
    ],
}
REFUSED = [text for told in REFUSALS.values() for text in told]
FAULTS = [
    "illegal image dimensions: not allowed",
    "context sensitive help is off",
    "celebrity-lora not found",
    "I cannot create a connection",
    "Access to this model is restricted: it is denied until you accept its terms of use",
    "blocked by our fair usage policy: 100 images per day",
    "Safety check: NaN detected in the latents",
    "image_safety_checker failed to load",
    "restarted due to safety shutdown",
    "content filter refused: 429",
    "unexpected keyword argument 'safety_checker'",
    "429: rate limit policy of the upstream",
    "the model's safety checker could not be loaded",
    "the model's safety checker could not be loaded: CUDA error",
    "disk quota policy violated",
    "The moderation service is temporarily unavailable. Please try again later.",
    "The moderation service refused the connection",
    "moderation endpoint rejected our API key",
    "Content moderation request timed out",
    "Content moderation failed with status 503",
    "moderation service: error code: 500",
    "safety checker did not load",
    "failed to load nsfw_detector.pt",
    "nsfw checker weights not found",
    "NSFW checker: CUDA out of memory",
    "ModuleNotFoundError: No module named 'nsfw_detector'",
    "KeyError: 'nsfw_content_detected'",
    "could not download the safety checker",
    "blocked by CORS policy",
    "The request violates the following Content Security Policy directive",
    "Blocked by network policy",
    "Your organization was blocked: billing policy violated",
    "Your resource has been temporarily blocked because we detected behavior that may violate our content policy.",
    "You have been blocked from accessing Midjourney. This happens on repeated or serious violations.",
    "retention policy: output was removed",
    "Error while deserializing header: safetensors rejected",
    "thread safety violation detected",
    "memory safety check failed the run",
    "case sensitive name not found",
    "content-type not allowed: image/webp",
    "content length exceeds what is allowed",
    "unsafe content-type detected",
    "prompt rejected: too long, 3000 characters",
    "prompt is required",
    "safety_filter_level must be one of block_low_and_above, block_medium_and_above",
    "input.safety_tolerance: must be at most 6",
    "content_filter_result: null",
    "content_filter.py: line 7 failed",
    "failed to fetch content policy",
    "the content policy server is unreachable",
    "safety_violations=[]",
    "finish_reason: STOP",
    "finish_reason: MAX_TOKENS",
    "NO_IMAGE",
    "moderate load, try again",
    "failed to moderate image",
    "Response blocked: too many requests",
    "GPU memory violation detected",
    "access violation at 0x0000",
    "Segmentation fault: storage access violation",
    "ResourceExhausted: quota of generate requests exceeded",
    "failed to download blocklist",
    "大小写敏感",
    "violates foreign key constraint",
    "scheduling policy rejected the pod",
    "image pull policy",
    "constraint violation detected",
    "deadlock detected",
    "No GPU detected",
    "cycle detected",
    "Anomaly detected in the backward pass",
    "unsafe redirect blocked",
    "Request blocked",
    "your request was rejected",
    "upstream rejected the request",
    "sensitive to noise: diverged",
    "violent crash of the worker",
    "I/O error",
    "I can't reach the model",
    "The model refused to start",
    "usage of our service is metered",
    "Terms of service: https://replicate.com/terms",
    "Detected a stale version of our service",
    "docker daemon rejected the image",
    "image size not allowed",
]


@pytest.mark.parametrize("text", REFUSED)
def test_a_refusal_for_content_is_known_whatever_the_model_calls_it(text):
    assert {classify_text(wrapping.format(text)) for wrapping in WRAPPINGS} == {ContentPolicyError}


@pytest.mark.parametrize("text", FAULTS)
def test_a_fault_that_only_sounds_like_moderation_is_no_refusal(text):
    assert ContentPolicyError not in {classify_text(wrapping.format(text)) for wrapping in WRAPPINGS}


def test_a_fault_beside_a_refusal_does_not_hide_it():
    assert classify_text("Content was flagged by the safety system. The log is not available.") is ContentPolicyError


def test_every_row_of_the_table_is_needed():
    wanted = [*TEXTS, *((text, ContentPolicyError) for text in REFUSED)]
    rows = failure_texts._KNOWN

    for place, (patterns, *_) in enumerate(rows):
        others = rows[:place] + rows[place + 1 :]
        assert any(failure_texts._classified(text, others) is not kind for text, kind in wanted), patterns


def test_a_text_is_read_up_to_a_length_and_a_number_of_sentences():
    assert classify_text("a" * (MOST_READ - 5) + " NSFW") is ContentPolicyError
    assert classify_text("a" * MOST_READ + " NSFW") is None
    assert classify_text("a. " * 1000 + "NSFW") is ContentPolicyError


def test_nothing_in_a_pattern_is_repeated_without_a_bound():
    patterns = [pattern for row in failure_texts._KNOWN for pattern in row[0]] + [failure_texts._SPEAKS_OF_A_FAULT]

    assert [pattern.pattern for pattern in patterns if re.search(r"[*+]|,\}", pattern.pattern)] == []
