"""Refusals, boilerplate and talk of the prompt are found in many languages, and ordinary texts are not."""

# ruff: noqa: RUF001  (texts as people write them, in many scripts)

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.validate.contracts.expectations.phrases import (
    Phrases,
    holds_boilerplate,
    is_refusal,
    known_phrases,
    mentions_prompt,
    refusals,
)

NONE = Phrases()
REFUSED = (
    "I'm sorry, but I can't assist with that.",
    "I’m sorry, but I can’t help with that request.",
    "Sorry, I cannot help you with this.",
    "I am unable to provide medical advice. Please see a doctor.",
    "Unfortunately, I cannot fulfill this request, as it goes against my guidelines.",
    "As an AI language model, I do not have access to your account.",
    "I'm not able to generate content of that kind.",
    "I must respectfully decline to write this message.",
    "I won't be able to help with that.",
    "I don't feel comfortable writing about that topic.",
    "Es tut mir leid, aber ich kann Ihnen dabei nicht helfen.",
    "Leider kann ich diese Anfrage nicht beantworten.",
    "Je suis désolé, mais je ne peux pas répondre à cette demande.",
    "Désolé, je ne peux pas vous aider avec cela.",
    "Lo siento, pero no puedo ayudarte con eso.",
    "Desculpe, mas não posso ajudar com isso.",
    "Mi dispiace, ma non posso aiutarti con questa richiesta.",
    "Het spijt me, maar ik kan je daar niet mee helpen.",
    "Przykro mi, ale nie mogę pomóc w tej sprawie.",
    "Извините, но я не могу помочь с этим запросом.",
    "Вибачте, але я не можу допомогти з цим.",
    "Üzgünüm, bu konuda yardımcı olamam.",
    "عذراً، لا يمكنني مساعدتك في هذا الطلب.",
    "मुझे खेद है, लेकिन मैं इसमें आपकी मदद नहीं कर सकता।",
    "很抱歉，我无法提供这方面的信息。",
    "对不起，我不能回答这个问题。",
    "申し訳ありませんが、そのご要望にはお応えできません。",
    "申し訳ございませんが、お手伝いできません。",
    "죄송하지만 그 요청은 도와드릴 수 없습니다.",
    "Xin lỗi, tôi không thể giúp bạn việc đó.",
    "Maaf, saya tidak dapat membantu permintaan itu.",
)
ANSWERED = (
    "i can't find my card, can you help me",
    "I am sorry for the delay: your parcel leaves tomorrow.",
    "i cannot answer the phone right now, what does my calendar say",
    "I can't help but laugh when I see the bill.",
    "we won't be able to pay by friday",
    "Ich kann meine Karte nicht finden.",
    "No puedo entrar en mi cuenta.",
    "Je ne peux pas ouvrir l'application.",
    "Я не могу войти в свой аккаунт.",
    "我无法登录我的账户。",
    "アプリを開くことができません。",
    "계좌에 로그인할 수 없습니다.",
    "لا أستطيع الدخول إلى حسابي.",
    "🙂",
    "",
)
BOILERPLATE = (
    "Sure! My card was stolen yesterday.",
    "Certainly! Here is a message about a lost card.",
    "Here is a message from an angry customer:\nWhere is my money?",
    "**Here's a possible question:** How do I pay?",
    "Sure, here is one: where is my card?",
    "As an AI language model, my favourite dish is pasta.",
    "Where is my card? I hope this helps!",
    "Reset it in the settings. Let me know if you need anything else.",
    "Dear [Your Name], your card is on its way.",
    "Hello [Customer's Name], your order is here.",
    "Dear {{ customer_name }}, welcome.",
    "Write to <your email> for more.",
    "Lorem ipsum dolor sit amet.",
    "Natürlich! Meine Karte ist weg.",
    "Hier ist eine Nachricht: Meine Karte ist weg.",
    "Liebe Grüße, [Ihr Name]",
    "Bien sûr ! Ma carte est perdue.",
    "Voici un message : ma carte est perdue.",
    "¡Claro! Perdí mi tarjeta.",
    "Aquí tienes un mensaje: perdí mi tarjeta.",
    "Claro! Perdi o meu cartão.",
    "Certo! Ho perso la carta.",
    "Конечно! Я потерял карту.",
    "Вот сообщение от клиента: я потерял карту.",
    "当然！我的卡丢了。",
    "以下是一条客户消息：我的卡丢了。",
    "作为一个人工智能，我喜欢面条。",
    "もちろんです！カードをなくしました。",
    "以下は例です：カードをなくしました。",
    "물론이죠! 카드를 잃어버렸어요.",
    "다음은 예시입니다: 카드를 잃어버렸어요.",
    "بالتأكيد! فقدت بطاقتي.",
    "إليك رسالة: فقدت بطاقتي.",
    "ज़रूर! मेरा कार्ड खो गया।",
)
PLAIN = (
    "are you sure that my card is on its way",
    "here is where i lost it, near the station",
    "of course you can pay later, can't you?",
    "i am sure here are more of them",
    "what does [1] mean on my bill",
    "let me know if the flight is late",
    "Klar ist nur, dass die Karte weg ist.",
    "Конечно, я потерял карту.",
    "当然我知道我的卡丢了",
    "is the AI of your bank listening",
    "{1, 2} is a set",
    "👍👍👍",
)
OF_THE_PROMPT = (
    "According to the passage above, who lost the card?",
    "Based on the given text, what is the main topic?",
    "What does the author mean in the second line of this passage, and in the text as a whole?",
    "As requested in the prompt, here comes a complaint.",
    "The provided document is about bills.",
    "The text says that the card is lost.",
    "My card is lost, as described in the document.",
    "Laut dem Text ist die Karte weg. Was nun?",
    "Was steht im obigen Text, und was in dem oben genannten Abschnitt?",
    "Selon le texte, où est la carte ?",
    "Según el texto, ¿dónde está la tarjeta?",
    "De acordo com o texto, onde está o cartão?",
    "Secondo il testo, dov'è la carta?",
    "Согласно тексту, где карта?",
    "根据上述文章，卡在哪里？",
    "上記の文章によると、カードはどこですか。",
    "주어진 텍스트를 읽고 답하세요.",
    "النص أعلاه يتحدث عن بطاقة.",
    "दिए गए पाठ के अनुसार कार्ड कहाँ है?",
)
OF_ITSELF = (
    "send a text to mom",
    "summarize the following article: the market fell.",
    "what is in the box",
    "did my document arrive",
    "in the context of a loan, what is interest",
    "based on the information you gave me, which plan is cheaper",
    "Welcher Text steht auf der Karte?",
    "帮我翻译这句话",
    "次の会議はいつですか",
)


@pytest.mark.parametrize(
    ("check", "caught", "fine"),
    [
        (is_refusal, REFUSED, ANSWERED),
        (holds_boilerplate, BOILERPLATE, PLAIN),
        (mentions_prompt, OF_THE_PROMPT, OF_ITSELF),
    ],
)
def test_what_models_say_is_found_and_what_people_say_is_not(
    check: object, caught: tuple[str], fine: tuple[str]
) -> None:
    assert callable(check)
    missed = [
        text for text, found in zip(caught, check(pd.Series(caught, dtype=object), NONE), strict=True) if not found
    ]
    alarms = [text for text, found in zip(fine, check(pd.Series(fine, dtype=object), NONE), strict=True) if found]
    assert (missed, alarms) == ([], [])


def test_a_refusal_late_in_a_text_is_a_remark() -> None:
    answer = "Your card is on its way. " * 20 + "As an AI language model, I cannot see where it is."
    assert not is_refusal(pd.Series([answer], dtype=object), NONE).any()
    assert holds_boilerplate(pd.Series([answer], dtype=object), NONE).all()


@pytest.mark.parametrize("check", [is_refusal, holds_boilerplate, mentions_prompt])
def test_a_text_of_a_million_characters_is_searched_to_its_end(check: object) -> None:
    assert callable(check)
    texts = pd.Series(["word " * 200_000, "word " * 200_000 + "MAGIC\nwords!"], dtype=object)
    assert check(texts, Phrases(phrases=["magic words!"])).tolist() == [False, True]


@given(
    st.text(max_size=60),
    st.text(alphabet="abc.*+?[]()|\\$^{} ", min_size=1, max_size=12).filter(str.strip),
    st.text(max_size=60),
)
def test_an_added_phrase_is_plain_text_and_found_anywhere_in_any_case(before: str, phrase: str, after: str) -> None:
    added = Phrases(phrases=[phrase])
    assert is_refusal(pd.Series([before + phrase.upper() + after], dtype=object), added).all()


@given(st.text(max_size=80))
def test_texts_of_other_characters_than_the_phrase_are_not_caught_by_it(text: str) -> None:
    added = Phrases(phrases=["\N{SNOWMAN}\N{COMET}"])
    caught = holds_boilerplate(pd.Series([text], dtype=object), added)[0]
    assert caught == (holds_boilerplate(pd.Series([text], dtype=object), NONE)[0] or "\N{SNOWMAN}\N{COMET}" in text)


def test_refusals_takes_texts_as_they_come() -> None:
    assert refusals(["I'm sorry, but I can't assist with that.", None, "hello"]).tolist() == [True, False, False]
    assert refusals([]).tolist() == []


@pytest.mark.parametrize("kind", ["refusals", "boilerplate", "prompt_mentions"])
def test_every_known_expression_is_sound_and_does_not_match_what_says_nothing(kind: str) -> None:
    nothing = pa.array(["", " ", "\n", "card", "I", "卡", "where is my card?", "1. one\n2. two"])
    for expression in known_phrases()[kind]:
        assert "<<" not in expression
        assert not pc.any(pc.match_substring_regex(nothing, expression, ignore_case=True)).as_py(), expression
