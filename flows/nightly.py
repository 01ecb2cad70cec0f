"""The night: collect, check the documents, generate, validate, check the training set, train, evaluate, publish.

Run it with ``retune run``, or from a Prefect deployment: ``prefect deployment run 'nightly-retraining/embedded'``.
"""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.night.run import night
from tasks.collect.task import collect_documents, fetch_sources
from tasks.evaluate.task import evaluate_candidate
from tasks.generate.task import generate_rows
from tasks.train.task import train_adapter
from tasks.validate.task import check_documents, check_training_set, validate_rows


@flow(name="nightly-retraining", flow_run_name="{recipe}", persist_result=False)
def nightly_retraining(recipe: str = "embedded") -> dict[str, Any]:
    """Retrain the adapter of a recipe, and publish it if it is better.

    Args:
        recipe: a name in deployments/recipes, or the path of a recipe file.

    Returns:
        run_id and status: published, rejected or no-op.
    """
    with night(recipe) as tonight:
        plan = tonight.recipe
        tonight.fetch(fetch_sources, plan.collect_job(tonight.home))
        collected = tonight.collect(collect_documents, plan.collect_job(tonight.home))
        documents = tonight.stage(check_documents, plan.documents_job(collected))
        tonight.require_holdout(collected, documents)
        generated = tonight.generate(generate_rows, plan.generate_job(documents)) if plan.generate else None
        validated = tonight.stage(validate_rows, plan.validate_job(collected, documents, generated))
        tonight.stage(check_training_set, plan.training_set_job(validated, tonight.publications(validated)))
        start = tonight.initial_adapter(validated)
        smaller = tonight.smaller(train_adapter, plan.smaller_train_jobs(validated, start))
        trained = tonight.stage(train_adapter, plan.train_job(validated, start))
        rival = tonight.rival(trained)
        tonight.stage(evaluate_candidate, plan.evaluate_job(documents, trained, rival, smaller))
        tonight.publish(plan.publish_job(tonight.artifacts))
    return {"run_id": tonight.record.run_id, "status": tonight.record.status}
