"""Texts in other languages are found; short ones are not judged."""

from __future__ import annotations

import pandas as pd
import pytest
from pydantic import ValidationError

from tasks.validate.contracts.expectations.languages import (
    COMMON,
    UNKNOWN,
    Languages,
    detect_languages,
    is_in_another_language,
    known_languages,
)

SAID = {
    "ar": "أين بطاقتي الجديدة التي طلبتها من البنك؟",
    "cs": "Kde je moje nová karta, kterou jsem si objednal?",
    "de": "Wo ist meine neue Karte, die ich bestellt habe?",
    "el": "Πού είναι η νέα κάρτα που παρήγγειλα;",
    "en": "Where is my new card that I ordered last week?",
    "es": "¿Dónde está la nueva tarjeta que pedí la semana pasada?",
    "fr": "Où est la nouvelle carte que j'ai commandée ?",
    "he": "איפה הכרטיס החדש שהזמנתי מהבנק?",
    "hi": "मेरा नया कार्ड कहाँ है जो मैंने मंगाया था?",
    "id": "Di mana kartu baru saya yang saya pesan minggu lalu?",
    "it": "Dov'è la nuova carta che ho ordinato la settimana scorsa?",
    "ja": "先週注文した新しいカードはどこですか。",
    "ko": "지난주에 주문한 새 카드는 어디에 있나요?",
    "nl": "Waar is mijn nieuwe kaart die ik heb besteld?",
    "pl": "Gdzie jest moja nowa karta, którą zamówiłem?",
    "pt": "Onde está o novo cartão que pedi na semana passada?",
    "ru": "Где моя новая карта, которую я заказал?",
    "sv": "Var är mitt nya kort som jag beställde förra veckan?",
    "th": "บัตรใหม่ที่ฉันสั่งเมื่อสัปดาห์ที่แล้วอยู่ที่ไหน",
    "tr": "Geçen hafta sipariş ettiğim yeni kart nerede?",
    "uk": "Де моя нова картка, яку я замовив?",
    "vi": "Thẻ mới mà tôi đã đặt tuần trước ở đâu?",
    "zh": "我上周订购的新卡在哪里",
}


def test_the_language_of_a_sentence_is_told() -> None:
    assert detect_languages(SAID.values()) == list(SAID)


def test_short_texts_numbers_and_what_is_missing_are_of_no_language() -> None:
    assert detect_languages(["ok", "", "🙂🙂🙂", "12,500.00", None]) == [UNKNOWN] * 5


@pytest.mark.parametrize("language", ["en", "de", "zh", "ar"])
def test_texts_in_other_languages_are_caught_and_those_in_this_one_are_not(language: str) -> None:
    caught = is_in_another_language(pd.Series(SAID.values(), dtype=object), Languages(languages=[language]))
    assert caught.tolist() == [other != language for other in SAID]


def test_several_languages_can_be_allowed() -> None:
    caught = is_in_another_language(pd.Series(SAID.values(), dtype=object), Languages(languages=["en", "es", "ja"]))
    assert [name for name, found in zip(SAID, caught, strict=True) if not found] == ["en", "es", "ja"]


def test_a_rare_language_can_be_asked_for_and_is_no_other_then() -> None:
    basque = "Non dago joan den astean eskatu nuen txartel berria?"
    assert "eu" not in COMMON
    assert is_in_another_language(pd.Series([basque], dtype=object), Languages(languages=["eu"])).tolist() == [False]


def test_text_in_capitals_long_text_and_quoted_words_keep_their_language() -> None:
    texts = [SAID["en"].upper(), SAID["en"] * 2_000, "how do you say 'ich habe Hunger' when you are in Germany"]
    assert not is_in_another_language(pd.Series(texts, dtype=object), Languages(languages=["en"])).any()


def test_texts_with_too_few_letters_are_not_judged_and_a_chinese_character_counts_for_three() -> None:
    texts = pd.Series(["wo ist sie", "我的新卡在哪里", "12345678901234567890123", 5, None], dtype=object)
    assert is_in_another_language(texts, Languages(languages=["en"])).tolist() == [False, True, False, False, False]
    patient = Languages(languages=["en"], minimum_letters=22)
    assert not is_in_another_language(texts, patient).any()


def test_a_language_that_the_detector_does_not_know_is_refused_with_those_it_knows() -> None:
    with pytest.raises(ValidationError, match=r"the detector does not know the language 'english'; it knows .*\ben\b"):
        Languages(languages=["english"])
    assert set(COMMON) <= known_languages()
